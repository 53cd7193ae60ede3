// The header is all there is: VitcABI implements it in Swift.
#include "vitc.h"
