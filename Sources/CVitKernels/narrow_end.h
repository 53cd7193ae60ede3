// Ends a kind of instruction that a body was included for.
#undef TILE_ROWS
#undef TILE_VECTORS
#undef TILE_LANES
#undef TILE_STEP
#undef TILE_DOT
#undef S8_SHIFTED
#undef tile_vec
#undef ISA
#undef SUFFIX
