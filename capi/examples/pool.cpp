// numbapool in C++17: tensors over std::vector, statuses as exceptions, four threads that call at once, a gradient.
//
//     c++ -std=c++17 pool.cpp $(pkg-config --cflags --libs numbapool) -pthread -o pool && ./pool

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <numbapool.h>

// float32 in row-major order.  It owns its elements; the DLTensor that `view` gives borrows them.
class Tensor {
public:
    explicit Tensor(std::vector<std::int64_t> shape)
        : shape_(std::move(shape)),
          data_(static_cast<std::size_t>(std::accumulate(shape_.begin(), shape_.end(), std::int64_t{1}, std::multiplies<>())))
    {
    }

    DLTensor view() const
    {
        DLTensor t{};
        t.data = const_cast<float *>(data_.data()); // the library writes only to what it is given as DLTensor *
        t.device.device_type = kDLCPU;
        t.ndim = static_cast<std::int32_t>(shape_.size());
        t.dtype = {kDLFloat, 32, 1};
        t.shape = const_cast<std::int64_t *>(shape_.data());
        return t;
    }

    const std::vector<std::int64_t> &shape() const { return shape_; }
    std::vector<float> &data() { return data_; }
    const std::vector<float> &data() const { return data_; }

private:
    std::vector<std::int64_t> shape_;
    std::vector<float> data_;
};

static void check(int status)
{
    if (status != NUMBAPOOL_OK)
        throw std::runtime_error(numbapool_error_message());
}

// Soft pooling with square windows, and its gradient.
class SoftPool {
public:
    explicit SoftPool(std::int64_t kernel)
    {
        check(numbapool_params_init(&params_, sizeof params_));
        params_.kernel_size[0] = params_.kernel_size[1] = kernel;
    }

    Tensor forward(const Tensor &x) const
    {
        std::vector<std::int64_t> shape(x.shape().size());
        DLTensor in = x.view();
        check(numbapool_soft_shape(&in, &params_, shape.data()));
        Tensor y(shape);
        DLTensor out = y.view();
        check(numbapool_soft_pool(&in, &out, &params_));
        return y;
    }

    Tensor backward(const Tensor &grad, const Tensor &x) const
    {
        Tensor grad_x(x.shape());
        DLTensor g = grad.view(), in = x.view(), out = grad_x.view();
        check(numbapool_soft_pool_backward(&g, &in, &out, &params_));
        return grad_x;
    }

private:
    numbapool_params params_;
};

// One window of 0, 0, 0 and ln 3 has the weights 1/6, 1/6, 1/6 and 1/2, and so the value ln 3 / 2.
static bool known_value(const SoftPool &pool)
{
    Tensor x({1, 1, 2, 2}), grad({1, 1, 1, 1});
    const float ln3 = std::log(3.0F);
    x.data() = {0, 0, 0, ln3};
    grad.data() = {1};
    const float y = pool.forward(x).data()[0], slope = pool.backward(grad, x).data()[3];
    return std::abs(y - ln3 / 2) < 1e-5F && std::abs(slope - 0.5F * (1 + ln3 / 2)) < 1e-5F;
}

int main()
try {
    const SoftPool pool(2);
    bool right = known_value(pool);

    Tensor x({4, 16, 112, 112});
    for (std::size_t i = 0; i < x.data().size(); i++)
        x.data()[i] = static_cast<float>(i * 7919 % 1000) / 100.0F;
    const Tensor y = pool.forward(x);

    // Functions may be called from any thread: these four share x and the parameters, and have results of their own.
    std::vector<Tensor> results(4, Tensor(y.shape()));
    std::vector<std::thread> threads;
    for (Tensor &result : results)
        threads.emplace_back([&] { result = pool.forward(x); }); // an exception in here would end the program
    for (std::thread &thread : threads)
        thread.join();
    for (const Tensor &result : results)
        right = right && result.data() == y.data();

    try {
        SoftPool(200).forward(x);
        right = false;
    } catch (const std::runtime_error &error) {
        std::cout << "refused, as it should be: " << error.what() << '\n';
    }
    std::cout << (right ? "all as expected\n" : "wrong\n");
    return right ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
}
