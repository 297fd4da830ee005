//! Objects for tests, as a real API server shows them.
