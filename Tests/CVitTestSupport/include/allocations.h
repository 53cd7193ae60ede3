// Counts the allocations of a thread, by taking the place of the C library's functions.
#ifndef VIT_ALLOCATIONS_H
#define VIT_ALLOCATIONS_H

// Allocations of the calling thread so far; -1 where a sanitizer has taken that place.
long vit_test_allocations(void);
#endif
