// Ends a kind of instruction that a body was included for.
#undef TILE_ROWS
#undef TILE_VECTORS
#undef TILE_LANES
#undef TILE_STEP
#undef TILE_DOT
#undef S8_SHIFTED
#undef tile_vec
#undef AMX_BEGIN
#undef AMX_END
#undef AMX_ZERO
#undef AMX_LOAD
#undef AMX_STORE
#undef AMX_DOT
#undef ISA
#undef SUFFIX
