#include "check.h"

#include "stream/layers.h"

static ts_role role_of(const char *text)
{
    ts_role role;
    ts_role_of((ts_name){text, strlen(text)}, &role);
    return role;
}

static void check_kind(const char *text, ts_kind want)
{
    ts_kind got = (ts_kind)role_of(text).kind;
    CHECK(got == want, "%s: %s, not %s", text, ts_kind_name(got),
          ts_kind_name(want));
}

static void check_place(const char *text, const char *stack, int layer,
                        int expert)
{
    ts_role role = role_of(text);
    CHECK(role.stack == strlen(stack) && memcmp(text, stack, role.stack) == 0,
          "%s: stack of %u bytes", text, role.stack);
    CHECK(role.layer == layer, "%s: layer %d", text, role.layer);
    CHECK(role.expert == expert, "%s: expert %d", text, role.expert);
}

static void check_marks(const char *text, unsigned want)
{
    CHECK(role_of(text).marks == want, "%s: %u", text, role_of(text).marks);
}

static void check_phase(const char *text, ts_phase want)
{
    CHECK(role_of(text).phase == want, "%s: %d", text, role_of(text).phase);
}

static void words_are_matched_whole(void)
{
    check_kind("embeddings.word_embeddings.weight", TS_KIND_EMBEDDING);
    check_kind("keypoint.weight", TS_KIND_OTHER);
    check_kind("sword.weight", TS_KIND_OTHER);
    check_kind("networks.weight", TS_KIND_OTHER);
    check_kind("normalized_input.weight", TS_KIND_OTHER);
    check_kind("attentionattentionattention.weight", TS_KIND_OTHER);
    check_kind("intermediateinter.weight", TS_KIND_OTHER);
}

static void norms_are_norms_wherever_they_stand(void)
{
    check_kind("post_attention_layernorm.weight", TS_KIND_NORMALIZATION);
    check_kind("embeddings.LayerNorm.weight", TS_KIND_NORMALIZATION);
    check_kind("layers.0.self_attn.q_norm.weight", TS_KIND_NORMALIZATION);
    check_kind("blk.3.attn_norm.weight", TS_KIND_NORMALIZATION);
    check_kind("cls.predictions.transform.LayerNorm.bias",
               TS_KIND_NORMALIZATION);
    check_kind("vision_model.pre_layrnorm.weight", TS_KIND_NORMALIZATION);
    check_kind("block.RMSNorm.weight", TS_KIND_NORMALIZATION);
    check_kind("h.0.ln_1.bias", TS_KIND_NORMALIZATION);
    check_kind("layers.0.1.running_mean", TS_KIND_NORMALIZATION);
}

static void deeper_evidence_wins_among_equals(void)
{
    check_kind("attentions.0.transformer_blocks.0.ff.net.2.weight",
               TS_KIND_MLP);
    check_kind("classifier.out_proj.weight", TS_KIND_OUTPUT);
    check_kind("encoder.layer.0.attention.output.dense.weight",
               TS_KIND_ATTENTION);
    check_kind("encoder.layer.0.output.dense.weight", TS_KIND_MLP);
    check_kind("vision_model.head.attention.in_proj_weight",
               TS_KIND_ATTENTION);
    check_kind("layers.0.attention.wo.weight", TS_KIND_ATTENTION);
    check_kind("mlp.router.classifier.weight", TS_KIND_MLP);
    check_kind("block.0.SelfAttention.relative_attention_bias.weight",
               TS_KIND_ATTENTION);
    check_kind("t_embedder.mlp.0.weight", TS_KIND_EMBEDDING);
    check_kind("layers.0.self_attn.rotary_emb.inv_freq", TS_KIND_OTHER);
}

static void a_block_starts_afresh(void)
{
    check_kind("embedders.0.transformer.layers.3.mlp.fc1.weight",
               TS_KIND_MLP);
    check_kind("output_blocks.3.0.in_layers.2.weight", TS_KIND_OTHER);
    check_kind("decoder.embed.layers.0.weight", TS_KIND_EMBEDDING);
}

static void places_decide_where_words_do_not(void)
{
    check_kind("output.weight", TS_KIND_OUTPUT);
    check_kind("shared.weight", TS_KIND_EMBEDDING);
    check_kind("conv1.weight", TS_KIND_EMBEDDING);
    check_kind("layer1.0.conv1.weight", TS_KIND_OTHER);
    check_kind("fc.weight", TS_KIND_OUTPUT);
    check_kind("decoder.weight", TS_KIND_OUTPUT);
    check_kind("cls.predictions.decoder.weight", TS_KIND_OUTPUT);
    check_kind("pooler.dense.weight", TS_KIND_OUTPUT);
    check_kind("classifier.dense.weight", TS_KIND_OUTPUT);
}

static void layers_are_numbers_of_the_outermost_block(void)
{
    check_place("model.layers.7.mlp.experts.3.up_proj.weight", "model.layers",
                7, 3);
    check_place("encoder.block.3.layer.1.DenseReluDense.wo.weight",
                "encoder.block", 3, -1);
    check_place("blk.12.attn_q.weight", "blk", 12, -1);
    check_place("blk.0.ffn_gate.3.weight", "blk", 0, 3);
    check_place("down_blocks.1.attentions.0.transformer_blocks.2.norm1.bias",
                "down_blocks", 1, -1);
    check_place("transformer.h.5.attn.c_attn.weight", "transformer.h", 5, -1);
    check_place("layer3.5.conv2.weight", "layer3", 5, -1);
    check_place("bert/encoder/layer_7/output/dense/kernel",
                "bert/encoder/layer", 7, -1);
    check_place("convnext.2.dw.weight", "convnext", 2, -1);
    check_place("experts.3.w1.weight", "", -1, 3);
    check_place("mlp.experts.expert_11.wi.weight", "", -1, 11);
    check_place(
        "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks", 1, -1);
}

static void positions_in_lists_are_no_layers(void)
{
    check_place("classifier.0.weight", "", -1, -1);
    check_place("bbox_predictor.layers.2.weight", "", -1, -1);
    check_place("mlp.2.weight", "", -1, -1);
    check_place("mm.0.weight", "", -1, -1);
    check_place("dense_h_to_4h.weight", "", -1, -1);
    check_place("layers.weight", "", -1, -1);
}

static void marks_go_with_any_kind(void)
{
    check_marks("layers.0.mlp.experts.gate_up_proj", TS_MARK_EXPERT);
    check_marks("layers.0.mlp.shared_experts.up_proj.weight",
                TS_MARK_SHARED_EXPERT);
    check_marks("layers.0.mlp.shared_expert_gate.weight",
                TS_MARK_SHARED_EXPERT | TS_MARK_ROUTER);
    check_marks("layers.0.block_sparse_moe.gate.weight", TS_MARK_ROUTER);
    check_marks("layers.0.mlp.gate.e_score_correction_bias",
                TS_MARK_ROUTER | TS_MARK_BIAS);
    check_marks("layers.0.mlp.experts.0.gate.weight", TS_MARK_EXPERT);
    check_marks("layers.0.mlp.gate_proj.bias", TS_MARK_BIAS);
    check_marks("block.0.relative_attention_bias.weight", 0);
    check_marks("layers.0.q_proj.lora_A.default.weight", TS_MARK_LORA);
    check_marks("layers.0.q_proj.lora_magnitude_vector", TS_MARK_LORA);
    check_marks("layers.0.q_proj.weight_scale_inv", TS_MARK_SCALE);
    check_marks("layers.0.q_proj.qzeros", TS_MARK_SCALE);
    check_marks("layers.0.q_proj.weight.absmax", TS_MARK_SCALE);
    check_marks("layers.0.layer_scale", 0);
    check_marks("blk.0.attn_q.scale", TS_MARK_SCALE);
}

static void phases_follow_the_forward_pass(void)
{
    check_phase("model.embed_tokens.weight", TS_PHASE_BEFORE);
    check_phase("embeddings.LayerNorm.weight", TS_PHASE_BEFORE);
    check_phase("token_embd_norm.weight", TS_PHASE_BEFORE);
    check_phase("visual.ln_pre.weight", TS_PHASE_BEFORE);
    check_phase("bn1.weight", TS_PHASE_BEFORE);
    check_phase("visual.patch_embed.proj.weight", TS_PHASE_BEFORE);
    check_phase("model.layers.0.input_layernorm.weight", TS_PHASE_LAYERS);
    check_phase("mid_block.resnets.0.conv1.weight", TS_PHASE_LAYERS);
    check_phase("model.norm.weight", TS_PHASE_AFTER);
    check_phase("output_norm.weight", TS_PHASE_AFTER);
    check_phase("lm_head.weight", TS_PHASE_AFTER);
    check_phase("pooler.dense.bias", TS_PHASE_AFTER);
}

static void hostile_names_are_only_names(void)
{
    check_place("", "", -1, -1);
    check_place("...", "", -1, -1);
    check_place("layers", "", -1, -1);
    check_place("layers.", "", -1, -1);
    check_place("7", "", -1, -1);
    check_place(".7.", "", -1, -1);
    check_place("layers.99999999999999999999.weight", "", -1, -1);
    check_place("layers.-1.weight", "", -1, -1);
    check_place("layers.999999999.weight", "layers", 999999999, -1);
    check_place("lora_layers\xc3\xa9" "3.weight", "", -1, -1);
    check_kind("\xff\xfe.attn.\x01", TS_KIND_ATTENTION);

    char longer[4096];
    memset(longer, 'a', sizeof longer);
    ts_role role;
    ts_role_of((ts_name){longer, sizeof longer}, &role);
    CHECK(role.kind == TS_KIND_OTHER);
    memset(longer, '.', sizeof longer);
    ts_role_of((ts_name){longer, sizeof longer}, &role);
    CHECK(role.layer == -1);
}

/* Any bytes, in memory that ends with the name: the sanitizers watch. */
static void any_bytes_give_a_role_within_the_name(void)
{
    static const char *const parts[] = {"layers", "3", ".", "_", "/", "attn",
                                        "experts", "lora_", "LN", "\xc3",
                                        "99999999999", "blk", "W", "gate"};
    uint32_t random = 1;
    for (int round = 0; round < 200000; round++) {
        char text[96];
        size_t size = 0;
        for (int i = 0; i < 8; i++) {
            random = random * 1664525u + 1013904223u;
            const char *part = parts[(random >> 16) % 14];
            memcpy(text + size, part, strlen(part));
            size += strlen(part);
        }
        char *exact = malloc(size);
        if (exact == NULL) return;
        memcpy(exact, text, size);
        ts_role role;
        ts_role_of((ts_name){exact, size}, &role);
        CHECK(role.kind < TS_KIND_COUNT && role.stack < size);
        CHECK(role.layer >= -1 && role.expert >= -1);
        CHECK((role.layer >= 0) == (role.stack > 0), "%.*s", (int)size, exact);
        CHECK(role.stack == 0 || strchr("._/", exact[role.stack]) != NULL);
        free(exact);
    }
}

static void kinds_and_marks_have_names(void)
{
    ts_kind kind;
    for (int i = 0; i < TS_KIND_COUNT; i++) {
        const char *name = ts_kind_name((ts_kind)i);
        CHECK(ts_kind_find(name, strlen(name), &kind) && (int)kind == i);
    }
    CHECK(!ts_kind_find("atten", 5, &kind) && !ts_kind_find("", 0, &kind));
    CHECK(strcmp(ts_mark_name(TS_MARK_SHARED_EXPERT), "shared_expert") == 0);
}

int main(void)
{
    RUN(words_are_matched_whole);
    RUN(norms_are_norms_wherever_they_stand);
    RUN(deeper_evidence_wins_among_equals);
    RUN(a_block_starts_afresh);
    RUN(places_decide_where_words_do_not);
    RUN(layers_are_numbers_of_the_outermost_block);
    RUN(positions_in_lists_are_no_layers);
    RUN(marks_go_with_any_kind);
    RUN(phases_follow_the_forward_pass);
    RUN(hostile_names_are_only_names);
    RUN(any_bytes_give_a_role_within_the_name);
    RUN(kinds_and_marks_have_names);
    CHECK_END();
}
