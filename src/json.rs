//! JSON text without a tree: what can be learnt and changed in one pass over the bytes.
