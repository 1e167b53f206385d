//! A first, plain form of the codec, to be replaced by the planned one.

pub(crate) mod fast;
