//! Many small programs in shared executable pages that are never writable and executable at once.
