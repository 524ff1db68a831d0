//! The kernel's io_uring behind the door.
