#ifndef VITK_H
#define VITK_H
#include <stddef.h>
#include <stdint.h>
#endif
