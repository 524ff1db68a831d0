//! THE command table.
