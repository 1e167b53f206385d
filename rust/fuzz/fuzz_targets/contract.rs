#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pioxide_fuzz::contract(data));
