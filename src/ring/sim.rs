//! The simulated ring.
//!
//! It will stand behind [`Ring`](super::Ring) as the kernel's ring does.
