/* saved_layer.c -- a whole layer: where norms and sums stand; what follows the
 * last; sums for a rank. */
#include "saved.h"

static ts_operand add(ts_tape *tape, ts_operand a, ts_operand b)
{
    ts_operand sum = ts_tape_like(tape, a);

    sum.grad = a.grad || b.grad;
    return sum;
}

static ts_operand norm(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    tape->part = TS_TAPE_RESIDUAL;
    return ts_saved_norm(pass, tape, x);
}

/* InternViT: lambda * f(x), which keeps f(x) while lambda trains. */
static ts_operand scaled(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    bool trains = ts_saved_trains(pass);

    if (!pass->layer->branch_scale) return x;
    return ts_tape_mul(tape, ts_tape_parameter(x.width, x.size, trains), x,
                       "scale", "what is scaled");
}

static ts_operand mix(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    tape->part = TS_TAPE_ATTENTION;
    x = ts_saved_attention(pass, tape, x);
    x = ts_saved_drop(pass, tape, x, pass->layer->residual_dropout);
    return scaled(pass, tape, x);
}

static ts_operand cross(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    tape->part = TS_TAPE_ATTENTION;
    x = ts_saved_cross(pass, tape, x);
    return ts_saved_drop(pass, tape, x, pass->layer->residual_dropout);
}

static ts_operand feed(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    tape->part = TS_TAPE_MLP;
    x = ts_saved_mlp(pass, tape, x);
    x = ts_saved_drop(pass, tape, x, pass->layer->residual_dropout);
    return scaled(pass, tape, x);
}

/* x + f(n(x)), f a mixer or an MLP. */
typedef ts_operand (*branch)(const ts_pass *, ts_tape *, ts_operand);

static ts_operand before(const ts_pass *pass, ts_tape *tape, ts_operand x,
                       branch f)
{
    return add(tape, x, f(pass, tape, norm(pass, tape, x)));
}

static ts_operand after(const ts_pass *pass, ts_tape *tape, ts_operand x,
                      branch f)
{
    return add(tape, x, norm(pass, tape, f(pass, tape, x)));
}

static ts_operand around(const ts_pass *pass, ts_tape *tape, ts_operand x,
                       branch f)
{
    ts_operand y = f(pass, tape, norm(pass, tape, x));

    return add(tape, x, norm(pass, tape, y));
}

static ts_operand behind(const ts_pass *pass, ts_tape *tape, ts_operand x,
                       branch f)
{
    return norm(pass, tape, add(tape, x, f(pass, tape, x)));
}

static void in_turn(const ts_pass *pass, ts_tape *tape, ts_operand x,
                    ts_operand (*step)(const ts_pass *, ts_tape *, ts_operand,
                                     branch))
{
    x = step(pass, tape, x, mix);
    if (pass->layer->cross) x = step(pass, tape, x, cross);
    if (pass->layer->mlp != TS_MLP_NONE) step(pass, tape, x, feed);
}

static void layer(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    ts_operand n;

    switch ((ts_norm_order)pass->layer->norm_order) {
    case TS_NORM_ORDER_AFTER: in_turn(pass, tape, x, after); break;
    case TS_NORM_ORDER_SANDWICH: in_turn(pass, tape, x, around); break;
    case TS_NORM_ORDER_POST: in_turn(pass, tape, x, behind); break;
    case TS_NORM_ORDER_SHARED:
        n = norm(pass, tape, x);
        mix(pass, tape, n);
        feed(pass, tape, n);
        break;
    case TS_NORM_ORDER_TWIN:
        mix(pass, tape, norm(pass, tape, x));
        feed(pass, tape, norm(pass, tape, x));
        break;
    case TS_NORM_ORDER_PRE:
    case TS_NORM_ORDER_COUNT: in_turn(pass, tape, x, before); break;
    }
}

static ts_operand input(const ts_pass *pass, ts_tape *tape)
{
    return ts_tape_new(tape, ts_tape_times(tape, pass->batch, pass->seq),
                       pass->stack->hidden, ts_saved_size(pass), pass->grad);
}

void ts_saved_layer(const ts_pass *pass, ts_tape *tape)
{
    ts_operand x;

    ts_tape_begin(tape);
    x = input(pass, tape);
    if (pass->run->recompute == TS_RECOMPUTE_FULL)
        ts_tape_keep(tape, x, "input of a checkpointed layer");
    else
        layer(pass, tape, x);
}

/* loss_utils.py, ForCausalLMLoss: logits as F32, cross_entropy, which keeps
 * its log_softmax.  Labels are padded by one and cut: a copy, or, of a single
 * sequence, a view that keeps the padding. */
void ts_saved_head(const ts_pass *pass, const ts_model *model, ts_tape *tape)
{
    ts_operand x;

    ts_tape_begin(tape);
    x = input(pass, tape);
    if (pass->stack->final_norms != 0) x = norm(pass, tape, x);
    x = ts_saved_linear(pass, tape, x, model->vocab, TS_TARGET_HEAD);
    if (model->softcap) x = ts_tape_by_result(tape, x, "capped logits");
    x = ts_tape_cast(tape, x, 4);
    ts_tape_by_result(tape, x, "logarithms of probabilities");
    ts_tape_note(tape, x.rows + (pass->batch == 1), 1, 8, "labels");
    ts_tape_note(tape, 1, 1, 4, "weight of all labels");
}

/* ---- sums --------------------------------------------------------------- */

static uint64_t part_of(uint64_t whole, uint64_t ranks)
{
    return ts_divide_up(whole, ranks);
}

/* What one of tp ranks computes of a layer: heads and widths are divided, of
 * key heads at least one stays. */
static ts_layer rank_layer(const ts_layer *layer, const ts_run *run)
{
    ts_layer part = *layer;

    part.heads = part_of(layer->heads, run->tp);
    part.kv_heads = part_of(layer->kv_heads, run->tp);
    part.ffn = part_of(layer->ffn, run->tp);
    part.shared_ffn = part_of(layer->shared_ffn, run->tp);
    part.expert_ffn = part_of(layer->expert_ffn, run->etp);
    return part;
}

void ts_saved_block(const ts_stack *stack, const ts_layer *layer_of_all,
                    const ts_run *run, uint64_t tokens, ts_block *out)
{
    ts_layer part = rank_layer(layer_of_all, run);
    ts_pass pass = {stack, &part, run, run->batch, 0, 0, true};
    ts_tape tape;

    pass.seq = ts_divide_up(tokens, run->batch);
    pass.source_seq = run->source_seq != 0 ? run->source_seq : pass.seq;
    ts_tape_begin(&tape);
    layer(&pass, &tape, input(&pass, &tape));
    out->attention = ts_tape_part(&tape, TS_TAPE_ATTENTION);
    out->mlp = ts_tape_part(&tape, TS_TAPE_MLP);
    out->residual = ts_tape_part(&tape, TS_TAPE_RESIDUAL);
}

/* ---- one layer by its place --------------------------------------------- */

static ts_pass pass_of(const ts_model *model, const ts_run *run,
                       const ts_stack *stack)
{
    ts_pass pass = {stack, NULL, run, run->batch, run->seq, run->seq, true};

    if (run->source_seq != 0) pass.source_seq = run->source_seq;
    if (stack == &model->encoder) pass.seq = pass.source_seq;
    if (stack == &model->vision) {
        pass.batch = run->batch * run->images;
        pass.seq = run->image_patches;
    }
    return pass;
}

ts_status ts_saved_tensors(const ts_model *model, const ts_run *run,
                        unsigned name, uint64_t at, bool grad, ts_tape *out,
                        ts_error *error)
{
    const ts_stack *stacks[] = {&model->decoder, &model->encoder,
                                &model->vision};
    const ts_stack *stack;
    ts_pass pass;

    if (name >= TS_STACK_COUNT)
        return ts_fail(error, TS_ARGUMENT, "stack %u: there are %d", name,
                       TS_STACK_COUNT);
    stack = stacks[name];
    if (at > stack->layer_count
        || (at == stack->layer_count && name != TS_STACK_DECODER))
        return ts_fail(error, TS_ARGUMENT, "layer %llu of %u",
                       (unsigned long long)at, stack->layer_count);
    pass = pass_of(model, run, stack);
    pass.grad = grad;
    if (pass.batch == 0 || pass.seq == 0)
        return ts_fail(error, TS_ARGUMENT,
                       "no tokens: images and image_patches are 0");
    if (at == stack->layer_count) {
        pass.layer = &stack->kinds[0];
        ts_saved_head(&pass, model, out);
    } else {
        pass.layer = &stack->kinds[stack->kind_of[at]];
        ts_saved_layer(&pass, out);
    }
    ts_tape_total(out);
    if (out->overflow)
        return ts_fail(error, TS_ARGUMENT,
                       "what layer %llu keeps does not fit 64 bits",
                       (unsigned long long)at);
    return TS_OK;
}
