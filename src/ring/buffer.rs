//! The shared receive buffers of a ring.
