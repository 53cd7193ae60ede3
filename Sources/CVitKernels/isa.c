#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "features.h"
#include "levels.h"

static int machine_level = VK_BASE;
static uint32_t machine_features = 0;
static _Thread_local int thread_cap = VK_AVX512;

int vk_machine_level(void) { return machine_level; }

int vk_level(void) { return machine_level < thread_cap ? machine_level : thread_cap; }

void vk_cap_thread_level(int cap) { thread_cap = cap < VK_BASE || cap > VK_AVX512 ? VK_AVX512 : cap; }

uint32_t vk_features(void) {
  switch (thread_cap) {
    case VK_BASE: return 0;
    case VK_AVX2: return machine_features & (VK_HAS_AVX2 | VK_HAS_AVXVNNI);
    default: return machine_features;
  }
}

// What each word of VITC_ISA allows.
static const struct {
  const char *word;
  uint32_t allowed;
} words[] = {
    {"base", 0},
    {"avx2", VK_HAS_AVX2},
    {"avxvnni", VK_HAS_AVX2 | VK_HAS_AVXVNNI},
    {"avx512", VK_HAS_AVX2 | VK_HAS_AVX512},
    {"avx512vnni", VK_HAS_AVX2 | VK_HAS_AVXVNNI | VK_HAS_AVX512 | VK_HAS_AVX512VNNI | VK_HAS_FAST_BF16},
};

// Asks the system for tile registers, once for the process; it refuses where it knows none, or where a thread has a signal stack
// on which their contents have no room.
static int may_use_tiles(void) {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return 0;
#endif
}

__attribute__((constructor)) static void find_features(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    machine_features |= VK_HAS_AVX2;
    if (__builtin_cpu_supports("avxvnni")) machine_features |= VK_HAS_AVXVNNI;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      machine_features |= VK_HAS_AVX512;
      if (__builtin_cpu_supports("avx512vnni")) machine_features |= VK_HAS_AVX512VNNI;
      if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd")) machine_features |= VK_HAS_FAST_BF16;
    }
  }
#endif
  uint32_t allowed = ~(uint32_t)0;
  const char *wanted = getenv("VITC_ISA");
  for (size_t i = 0; wanted && i < sizeof words / sizeof words[0]; i++)
    if (!strcmp(wanted, words[i].word)) allowed = words[i].allowed;
  machine_features &= allowed;
#if defined(__x86_64__)
  if (allowed & machine_features & VK_HAS_AVX512 && allowed & VK_HAS_AMX_INT8 && __builtin_cpu_supports("amx-int8") &&
      may_use_tiles())
    machine_features |= VK_HAS_AMX_INT8;
#endif
  machine_level = machine_features & VK_HAS_AVX512 ? VK_AVX512 : machine_features & VK_HAS_AVX2 ? VK_AVX2 : VK_BASE;
}

int vk_affinity_cores(void) {
  cpu_set_t set;
  const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return cores < 1 ? 1 : cores;
}
