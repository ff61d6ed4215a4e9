//! Fixture files, blessing and generators for the tests of this workspace.
