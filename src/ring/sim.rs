//! The deterministic twin of the kernel's ring.
