#ifndef CVITFORMATS_H
#define CVITFORMATS_H
#include <zstd.h>
#include "vmod.pb-c.h"
#if __has_include(<turbojpeg.h>)
#include <turbojpeg.h>
#endif
#if __has_include(<png.h>)
#include <png.h>
#endif
#if __has_include(<webp/decode.h>)
#include <webp/decode.h>
#endif
#if __has_include(<zlib.h>)
#include <zlib.h>
#endif
#endif
