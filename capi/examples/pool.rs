//! numbapool in Rust, without a crate: the structs of numbapool.h, three of its functions, and a safe function around them.
//!
//!     rustc -L /usr/local/lib -l numbapool pool.rs && LD_LIBRARY_PATH=/usr/local/lib ./pool

use std::ffi::{c_char, c_int, c_void, CStr};
use std::ptr::null_mut;

#[repr(C)]
struct DLDevice {
    device_type: c_int,
    device_id: i32,
}

#[repr(C)]
struct DLDataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DLTensor {
    data: *mut c_void,
    device: DLDevice,
    ndim: i32,
    dtype: DLDataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// numbapool_params, field by field; numbapool_params_init sets them to their defaults.
#[repr(C)]
struct Params {
    size: usize,
    rank: i32,
    channels_last: i32,
    form: i32,
    padding_mode: i32,
    ceil_mode: i32,
    count_include_pad: i32,
    kernel_size: [i64; 3],
    stride: [i64; 3],
    padding: [i64; 3],
    padding_after: [i64; 3],
    dilation: [i64; 3],
    output_size: [i64; 3],
    divisor_override: i64,
    norm_type: f64,
    p: f64,
    eps: f64,
    temperature: f64,
    alpha: f64,
    t: i64,
    norm: i32,
    gradient: i32,
    training: i32,
    overlapping: i32,
    pseudo_random: i32,
    even: i32,
    seed: i64,
    grid_size: [i64; 3],
    pooling_ratio: [f64; 3],
    output_ratio: [f64; 3],
    sequences: [*const i64; 3],
    sequence_sizes: [i64; 3],
    num_threads: i32,
    reserved_too: i32,
    parallel_for: *const c_void, // in C a function pointer
    parallel_context: *mut c_void,
    workspace: *mut c_void,
    workspace_size: usize,
    workspace_needed: *mut usize,
    stream: *mut c_void, // of a CUDA device
}

const K_DL_CPU: c_int = 1;
const FLOAT32: DLDataType = DLDataType { code: 2, bits: 32, lanes: 1 };

extern "C" {
    fn numbapool_params_init(params: *mut Params, size: usize) -> c_int;
    fn numbapool_error_message() -> *const c_char;
    fn numbapool_soft_shape(x: *const DLTensor, params: *const Params, shape: *mut i64) -> c_int;
    fn numbapool_soft_pool(x: *const DLTensor, y: *mut DLTensor, params: *const Params) -> c_int;
}

/// A status as a Result: 0 is success, and the message stays until this thread's next call that fails.
fn checked(status: c_int) -> Result<(), String> {
    match status {
        0 => Ok(()),
        _ => Err(unsafe { CStr::from_ptr(numbapool_error_message()) }.to_string_lossy().into_owned()),
    }
}

/// Borrows elements as a tensor in row-major order; it must not live longer than they do.
fn tensor(data: *const f32, shape: &[i64]) -> DLTensor {
    DLTensor {
        data: data as *mut c_void,
        device: DLDevice { device_type: K_DL_CPU, device_id: 0 },
        ndim: shape.len() as i32,
        dtype: FLOAT32,
        shape: shape.as_ptr() as *mut i64,
        strides: null_mut(),
        byte_offset: 0,
    }
}

/// Soft pooling of x (N, C, H, W) with windows of kernel x kernel: the result and its shape.
fn soft_pool2d(x: &[f32], shape: [i64; 4], kernel: i64) -> Result<(Vec<f32>, [i64; 4]), String> {
    if shape.iter().any(|&n| n < 0) || shape.iter().product::<i64>() as usize != x.len() {
        return Err(format!("{} elements do not have the shape {shape:?}", x.len()));
    }
    let mut params = std::mem::MaybeUninit::<Params>::uninit();
    let mut out = [0; 4];
    unsafe {
        checked(numbapool_params_init(params.as_mut_ptr(), std::mem::size_of::<Params>()))?;
        let mut params = params.assume_init();
        params.kernel_size = [kernel, kernel, 0];
        let input = tensor(x.as_ptr(), &shape);
        checked(numbapool_soft_shape(&input, &params, out.as_mut_ptr()))?;
        let mut y = vec![0.0; out.iter().product::<i64>() as usize];
        checked(numbapool_soft_pool(&input, &mut tensor(y.as_mut_ptr(), &out), &params))?;
        Ok((y, out))
    }
}

fn main() -> Result<(), String> {
    // one window of 0, 0, 0 and ln 3 has the weights 1/6, 1/6, 1/6 and 1/2, and so the value ln 3 / 2
    let ln3 = 3.0_f32.ln();
    let (y, shape) = soft_pool2d(&[0.0, 0.0, 0.0, ln3], [1, 1, 2, 2], 2)?;
    println!("{y:?} of shape {shape:?}");
    assert_eq!(shape, [1, 1, 1, 1]);
    assert!((y[0] - ln3 / 2.0).abs() < 1e-5);
    println!("refused, as it should be: {}", soft_pool2d(&[0.0; 4], [1, 1, 2, 2], 3).unwrap_err());
    Ok(())
}
