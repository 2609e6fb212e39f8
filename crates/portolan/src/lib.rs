//! One map that many processes hold at once.
