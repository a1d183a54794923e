/* The pieces layers are made of: linear layers with their adapters, norms,
 * dropout. */
#include "saved.h"

unsigned ts_saved_size(const ts_pass *pass)
{
    switch (pass->run->dtype) {
    case TS_NUMBER_FP64: return 8;
    case TS_NUMBER_FP32: return 4;
    default: return 2;
    }
}

bool ts_saved_trains(const ts_pass *pass)
{
    return pass->run->method == TS_METHOD_FULL;
}

/* peft, tuners/lora/layer.py, Linear.forward: the input is cast to the
 * adapter's dtype for each adapter anew; A keeps the cast, B what A made. */
static void adapter(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    unsigned size =
        pass->run->adapter_dtype == TS_NUMBER_FP32 ? 4 : ts_saved_size(pass);
    ts_operand cast = ts_tape_cast(tape, x, size);

    cast = ts_saved_drop(pass, tape, cast, pass->run->adapter_dropout);
    ts_tape_keep(tape, cast, "input of an adapter");
    ts_tape_note(tape, x.rows, pass->run->rank, size, "inside an adapter");
}

/* A trained weight needs the input; a frozen one passes the gradient on with
 * what lives anyway. */
ts_operand ts_saved_linear(const ts_pass *pass, ts_tape *tape, ts_operand x,
                         uint64_t out, uint32_t target)
{
    bool trains = ts_saved_trains(pass);
    bool adapted = !trains && (pass->run->targets & target) != 0;

    if (trains) ts_tape_keep(tape, x, "input of a linear layer");
    if (adapted) adapter(pass, tape, x);
    return ts_tape_new(tape, x.rows, out, ts_saved_size(pass),
                       x.grad || trains || adapted);
}

/* torch's CPU dropout multiplies by a mask of the input's dtype; the one of
 * CUDA keeps a byte an element (native_dropout). */
ts_operand ts_saved_drop(const ts_pass *pass, ts_tape *tape, ts_operand x,
                       uint64_t on)
{
    if (!on) return x;
    if (x.grad)
        ts_tape_note(tape, x.rows, x.width, pass->run->host ? x.size : 1,
                     "dropout mask");
    return ts_tape_like(tape, x);
}

/* ---- norms ------------------------------------------------------------- */

/* x * rsqrt(mean(x^2) + eps): keeps x and a scale for each row. */
static ts_operand rms(ts_tape *tape, ts_operand x)
{
    if (x.grad) {
        ts_tape_keep(tape, x, "input of a norm");
        ts_tape_note(tape, x.rows, 1, x.size, "scale of a norm");
    }
    return ts_tape_like(tape, x);
}

/* torch's layer_norm: input and two statistics, which CUDA keeps in F32.  It
 * keeps them whenever anything needs a gradient. */
static ts_operand layer_norm(const ts_pass *pass, ts_tape *tape, ts_operand x,
                           bool trains)
{
    unsigned size = pass->run->host && x.size < 4 ? x.size : 4;
    ts_operand y = ts_tape_like(tape, x);

    y.grad = x.grad || trains;
    if (!y.grad) return y;
    ts_tape_keep(tape, x, "input of a norm");
    ts_tape_note(tape, x.rows, 1, size, "mean of a norm");
    ts_tape_note(tape, x.rows, 1, size, "scale of a norm");
    return y;
}

/* d = x - mean twice, d * rsqrt(mean(d^2)), times the weight in F32:
 * modeling_cohere.py, CohereLayerNorm. */
static ts_operand cohere(ts_tape *tape, ts_operand x, ts_operand weight)
{
    ts_operand y;

    if (x.grad) {
        ts_tape_keep(tape, ts_tape_like(tape, x), "deviation, squared");
        ts_tape_keep(tape, ts_tape_like(tape, x), "deviation");
        ts_tape_note(tape, x.rows, 1, 4, "scale of a norm");
    }
    y = ts_tape_like(tape, x);
    return ts_tape_mul(tape, weight, y, "weight in F32", "normed");
}

ts_operand ts_saved_norm(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    bool trains = ts_saved_trains(pass);
    unsigned size = x.size;
    ts_operand wide = ts_tape_cast(tape, x, 4);
    ts_operand weight = ts_tape_parameter(x.width, size, trains);
    ts_operand y;

    switch ((ts_norm_code)pass->layer->norm_code) {
    case TS_NORM_CODE_SCALED:
        y = ts_tape_mul(tape, weight, rms(tape, wide), "weight", "normed");
        break;
    case TS_NORM_CODE_GEMMA:
        weight = ts_tape_new(tape, 1, x.width, 4, trains);
        y = ts_tape_mul(tape, rms(tape, wide), weight, "normed", "1 + w");
        break;
    case TS_NORM_CODE_T5:
        y = rms(tape, wide);
        if (x.grad) ts_tape_keep(tape, x, "input of a norm");
        y = ts_tape_cast(tape, y, size);
        y = ts_tape_mul(tape, weight, y, "weight", "normed");
        break;
    case TS_NORM_CODE_LAYER: y = layer_norm(pass, tape, x, trains); break;
    case TS_NORM_CODE_LAYER_FP32:
        y = layer_norm(pass, tape, wide, false);
        break;
    case TS_NORM_CODE_LAYER_1P:
        y = layer_norm(pass, tape, x, trains);
        if (y.grad) ts_tape_note(tape, 1, x.width, size, "1 + w");
        break;
    case TS_NORM_CODE_COHERE:
        y = cohere(tape, wide, ts_tape_cast(tape, weight, 4));
        break;
    case TS_NORM_CODE_LLAMA:
    default:
        y = ts_tape_cast(tape, rms(tape, wide), size);
        y = ts_tape_mul(tape, weight, y, "weight", "normed");
        break;
    }
    return ts_tape_cast(tape, y, size);
}
