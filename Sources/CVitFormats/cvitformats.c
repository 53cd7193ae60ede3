#include "cvitformats.h"
