// The numeric kernels of vitc: plain C11 behind run-time instruction set dispatch.
//
// Every kernel runs on the caller's thread, allocates nothing and reports nothing: the Swift faces check before they
// call, and cut the work. `type` names the type of all `void *` operands that are floats; f64 exists at the base
// level only. Sizes and strides count elements.
#ifndef VITK_H
#define VITK_H
#include <stddef.h>
#include <stdint.h>

typedef enum { VK_F32 = 0, VK_F64 = 1 } vk_real;

// Instruction sets, each including those before it.
enum { VK_BASE = 0, VK_AVX2 = 1, VK_AVX512 = 2 };

// The level that kernels run at on this thread: the machine's, capped by VITC_ISA=base|avx2|avxvnni|avx512|avx512vnni and by the thread.
int vk_level(void);
// Caps the level of the calling thread alone, for tests that compare levels; a negative cap removes it.
void vk_cap_thread_level(int cap);
// The same without the thread's cap.
int vk_machine_level(void);

// Cores that the affinity mask of the process allows; at least 1.
int vk_affinity_cores(void);
// Tells the processor that the caller spins.
static inline void vk_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

#include "vitk_attention.h"
#include "vitk_bf16.h"
#include "vitk_blas.h"
#include "vitk_elementwise.h"
#include "vitk_gemm.h"
#include "vitk_gemm_s8.h"
#include "vitk_integer.h"
#include "vitk_rows.h"
#include "vitk_walk.h"
#include "vitk_scan.h"
#include "vitk_ssd.h"
#include "vitk_taps.h"
#endif
