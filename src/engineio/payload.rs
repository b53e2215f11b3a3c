//! Several packets in one polling body (section 1.4).
