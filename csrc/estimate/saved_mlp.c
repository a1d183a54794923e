/* Feed-forward parts: activation functions, gates, experts. */
#include "saved.h"

static ts_operand activation(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    switch ((ts_act)pass->layer->act) {
    case TS_ACT_RELU:
        return ts_tape_by_result(tape, x, "activation's result");
    case TS_ACT_RELU2:
        x = ts_tape_by_result(tape, x, "rectified");
        return ts_tape_by_input(tape, x, "rectified");
    case TS_ACT_GELU_NEW:
        /* activations.py, NewGELUActivation:
         * 0.5 x (1 + tanh(c (x + 0.044715 x^3))) */
        if (!x.grad) return ts_tape_like(tape, x);
        ts_tape_keep(tape, x, "activation's input, cubed");
        ts_tape_keep(tape, ts_tape_like(tape, x), "tanh");
        ts_tape_keep(tape, ts_tape_like(tape, x), "half the input");
        return ts_tape_by_input(tape, ts_tape_like(tape, x), "1 + tanh");
    case TS_ACT_QUICK_GELU:
        if (x.grad) ts_tape_keep(tape, x, "activation's input");
        return ts_tape_like(tape, ts_tape_by_result(tape, x, "sigmoid"));
    case TS_ACT_SILU:
    case TS_ACT_GELU:
    case TS_ACT_COUNT: break;
    }
    return ts_tape_by_input(tape, x, "activation's input");
}

/* act(gate) * up, the two perhaps views of one storage. */
static ts_operand gated(const ts_pass *pass, ts_tape *tape, ts_operand gate,
                      ts_operand up)
{
    ts_operand act = activation(pass, tape, gate);

    return ts_tape_mul(tape, act, up, "activated gate", "up");
}

static ts_operand dense(const ts_pass *pass, ts_tape *tape, ts_operand x,
                      uint64_t width)
{
    const ts_layer *layer = pass->layer;
    ts_operand gate, up, y;

    if (!layer->gated) {
        y = ts_saved_linear(pass, tape, x, width, TS_TARGET_UP);
        y = activation(pass, tape, y);
    } else if (layer->fused_gate) {
        gate = ts_saved_linear(pass, tape, x, 2 * width,
                               TS_TARGET_GATE | TS_TARGET_UP);
        gate = ts_tape_view(gate, x.rows, width);
        y = gated(pass, tape, gate, gate);
    } else {
        gate = ts_saved_linear(pass, tape, x, width, TS_TARGET_GATE);
        up = ts_saved_linear(pass, tape, x, width, TS_TARGET_UP);
        y = gated(pass, tape, gate, up);
    }
    y = ts_saved_drop(pass, tape, y, pass->layer->act_dropout);
    return ts_saved_linear(pass, tape, y, pass->stack->hidden,
                           TS_TARGET_DOWN);
}

/* ---- experts ----------------------------------------------------------- */

/* Weights of the experts that each token chose: (tokens, k). */
static ts_operand route(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    const ts_layer *layer = pass->layer;
    ts_router router = (ts_router)pass->layer->router;
    uint64_t k = layer->active_experts;
    bool trains = ts_saved_trains(pass);
    bool wide =
        router == TS_ROUTER_DEEPSEEK2 || router == TS_ROUTER_DEEPSEEK3;
    ts_operand weight, scores, top, in = x;

    if (wide) { /* F.linear(x.float(), weight.float()) */
        in = ts_tape_cast(tape, x, 4);
        weight = ts_tape_new(tape, layer->experts, x.width, 4, trains);
        if (x.size == 4) weight.storage = TS_PARAMETER;
        if (x.grad) ts_tape_keep(tape, weight, "router's weight in F32");
    }
    if (trains) ts_tape_keep(tape, in, "router's input");
    scores = ts_tape_new(tape, x.rows, layer->experts,
                         router == TS_ROUTER_GPT_OSS ? x.size : 4,
                         x.grad || trains);
    if (router != TS_ROUTER_GPT_OSS)
        scores = ts_tape_by_result(tape, scores, "router's scores");
    if (scores.grad) ts_tape_note(tape, x.rows, k, 8, "chosen experts");
    top = ts_tape_new(tape, x.rows, k, scores.size, scores.grad);
    if (router == TS_ROUTER_GPT_OSS)
        top = ts_tape_by_result(tape, top, "weights of experts");
    if (router == TS_ROUTER_MIXTRAL || router == TS_ROUTER_QWEN ||
        router == TS_ROUTER_DEEPSEEK3) {
        if (top.grad) {
            ts_tape_keep(tape, top, "weights of experts");
            ts_tape_note(tape, x.rows, 1, 4, "sum of weights");
        }
        top = ts_tape_like(tape, top);
    }
    if (router == TS_ROUTER_OLMOE || router == TS_ROUTER_QWEN)
        top = ts_tape_cast(tape, top, x.size);
    return top;
}

/* modeling_gpt_oss.py, _apply_gate: gate and up are columns in turn, both
 * clamped; (up + 1) * gate * sigmoid(1.702 gate). */
static ts_operand clamped_gate(ts_tape *tape, ts_operand both)
{
    ts_operand gate = ts_tape_like(tape, both), up = ts_tape_like(tape, both);
    ts_operand share;

    if (both.grad) ts_tape_keep(tape, both, "gate and up, before clamping");
    share = ts_tape_by_result(tape, ts_tape_like(tape, gate), "sigmoid");
    gate = ts_tape_mul(tape, gate, share, "clamped gate", "sigmoid");
    return ts_tape_mul(tape, up, gate, "clamped up + 1", "activated gate");
}

/* integrations/moe.py, grouped_mm_experts_forward: tokens are copied in the
 * order of their experts, which work as one grouped product. */
static ts_operand experts(const ts_pass *pass, ts_tape *tape, ts_operand x,
                        ts_operand top)
{
    const ts_layer *layer = pass->layer;
    bool trains = ts_saved_trains(pass);
    uint64_t rows = ts_tape_times(tape, x.rows, layer->active_experts);
    uint64_t width = layer->expert_ffn;
    bool grad = x.grad || trains;
    ts_operand in, both, y;

    if (x.grad) ts_tape_note(tape, rows, 1, 8, "order of tokens");
    if (top.grad) ts_tape_note(tape, rows, 1, 8, "order of weights");
    top = ts_tape_view(ts_tape_like(tape, top), rows, 1);
    in = ts_tape_new(tape, rows, x.width, x.size, x.grad);
    if (trains) ts_tape_keep(tape, in, "input of experts");
    if (grad) ts_tape_note(tape, layer->experts, 1, 4, "ends of experts");
    both = ts_tape_new(tape, rows, 2 * width, x.size, grad);
    both = ts_tape_view(both, rows, width);
    if (layer->router == TS_ROUTER_GPT_OSS) {
        if (trains) ts_tape_note(tape, rows, 1, 8, "experts, for biases");
        y = clamped_gate(tape, both);
    } else {
        y = gated(pass, tape, both, both);
    }
    if (trains) ts_tape_keep(tape, y, "product of gate and up");
    y = ts_tape_new(tape, rows, x.width, x.size, y.grad);
    y = ts_tape_mul(tape, y, top, "output of experts", "weights, ordered");
    if (y.grad) ts_tape_note(tape, rows, 1, 8, "order back");
    return ts_tape_new(tape, x.rows, x.width, x.size, y.grad);
}

static ts_operand shared(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    ts_operand y = dense(pass, tape, x, pass->layer->shared_ffn), gate;

    if (!pass->layer->shared_gate) return y;
    gate = ts_saved_linear(pass, tape, x, 1, 0);
    gate = ts_tape_by_result(tape, gate, "gate of the shared expert");
    return ts_tape_mul(tape, gate, y, "gate of the shared expert",
                       "output of the shared expert");
}

ts_operand ts_saved_mlp(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    const ts_layer *layer = pass->layer;
    ts_operand y;

    if (layer->mlp != TS_MLP_MOE) return dense(pass, tape, x, layer->ffn);
    y = experts(pass, tape, x, route(pass, tape, x));
    if (layer->shared_ffn != 0) shared(pass, tape, x);
    return y;
}
