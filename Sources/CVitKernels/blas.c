// OpenBLAS, loaded when it is first needed: with one thread, and with the kernels of our own level.
#define _GNU_SOURCE
#include "blas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "levels.h"

__typeof__(&cblas_sgemm) vk_sgemm;
__typeof__(&cblas_dgemm) vk_dgemm;

static void *(*take_buffer)(int);
static void (*give_buffer)(void *);
static int reserved;

// The address space of one of OpenBLAS's buffers: every thread inside a product takes one.
#define BUFFER_BYTES ((size_t)128 << 20)
#define MOST_BUFFERS 64

#if defined(__x86_64__)
#define CORE "OPENBLAS_CORETYPE="
static char cores[][32] = {CORE "Prescott", CORE "Haswell", CORE "SkylakeX"};
#endif

static const char *users_core(void) {
  const char *wanted = getenv("OPENBLAS_CORETYPE");
  return wanted && *wanted ? wanted : NULL;
}

const char *vk_blas_core(void) {
  const char *wanted = users_core();
#if defined(__x86_64__)
  return wanted ? wanted : cores[vk_machine_level()] + sizeof CORE - 1;
#else
  return wanted ? wanted : "default";
#endif
}

// Opens the library in an environment that says what it shall use. It looks there while it is loaded, and never again;
// setenv would change what other threads read, and what the processes that they start inherit.
static void *open_library(void) {
  static char threads[] = "OPENBLAS_NUM_THREADS=1";
  static char **changed;  // never freed: another thread may be reading it
  size_t count = 0, first = 0;
  while (environ && environ[count]) count++;
  changed = malloc((count + 3) * sizeof *changed);
  if (!changed) return NULL;
  changed[first++] = threads;  // the first of a name counts
#if defined(__x86_64__)
  if (!users_core()) changed[first++] = cores[vk_machine_level()];
#endif
  for (size_t i = 0; i < count; i++) changed[first++] = environ[i];
  changed[first] = NULL;
  char **before = environ;
  environ = changed;
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  environ = before;
  return library;
}

const char *vk_blas_load(void) {
  if (vk_dgemm) return NULL;
  void *library = open_library();
  if (!library) {
    const char *reason = dlerror();
    return reason ? reason : "no memory";
  }
  __typeof__(vk_sgemm) sgemm = (__typeof__(vk_sgemm))dlsym(library, "cblas_sgemm");
  __typeof__(vk_dgemm) dgemm = (__typeof__(vk_dgemm))dlsym(library, "cblas_dgemm");
  if (!sgemm || !dgemm) return "libopenblas.so.0 has no cblas_sgemm and cblas_dgemm";
  take_buffer = (void *(*)(int))dlsym(library, "blas_memory_alloc");
  give_buffer = (void (*)(void *))dlsym(library, "blas_memory_free");
  // A process that had loaded it before may have given it threads.
  int (*threads)(void) = (int (*)(void))dlsym(library, "openblas_get_num_threads");
  void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
  if (threads && set_threads && threads() != 1) set_threads(1);
  vk_sgemm = sgemm;
  vk_dgemm = dgemm;
  return NULL;
}

int vk_blas_reserve(int callers) {
  if (callers > MOST_BUFFERS) callers = MOST_BUFFERS;
  if (callers <= reserved || !take_buffer || !give_buffer) return 1;
  // It would ask the system for ever, so somebody else has to ask first.
  const size_t bytes = (size_t)(callers - reserved) * (BUFFER_BYTES + (size_t)sysconf(_SC_PAGESIZE));
  void *trial = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (trial == MAP_FAILED) return 0;
  munmap(trial, bytes);
  void *buffers[MOST_BUFFERS];
  for (int i = 0; i < callers; i++) buffers[i] = take_buffer(0);
  for (int i = 0; i < callers; i++) give_buffer(buffers[i]);
  reserved = callers;
  return 1;
}
