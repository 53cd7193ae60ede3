#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "levels.h"

static int machine_level = VK_BASE;
static _Thread_local int thread_cap = VK_AVX512;

int vk_machine_level(void) { return machine_level; }

int vk_level(void) { return machine_level < thread_cap ? machine_level : thread_cap; }

void vk_cap_thread_level(int cap) { thread_cap = cap < VK_BASE || cap > VK_AVX512 ? VK_AVX512 : cap; }

__attribute__((constructor)) static void find_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    machine_level = VK_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      machine_level = VK_AVX512;
  }
#endif
  const char *wanted = getenv("VITC_ISA");
  if (wanted && !strcmp(wanted, "base")) machine_level = VK_BASE;
  if (wanted && !strcmp(wanted, "avx2") && machine_level > VK_AVX2) machine_level = VK_AVX2;
}

int vk_affinity_cores(void) {
  cpu_set_t set;
  const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return cores < 1 ? 1 : cores;
}
