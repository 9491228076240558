//! Integration tests of bps: see `README.md` here and the one test binary in `it/`.
