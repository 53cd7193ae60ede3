#include "vitk.h"
