//! Cluster clients as people use them, unchanged.
