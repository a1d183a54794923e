"""Make the table of real tensor names that the roles are held against.

    python tests/make_names.py            writes tests/data/names/names.tsv

The truth does not come from names.  For transformers, diffusers and PEFT each
architecture is built on the meta device, and the *classes* of the modules on
the way to a parameter say what it is: an nn.Embedding is an embedding, what
lies in a class of attention is attention, and so on (`kind_by_class`).  A
layer is a position in the outermost ModuleList of blocks.  For GGUF the truth
comes from the names of the enum gguf.MODEL_TENSOR.  Where classes say too
little, or something else than a reader would, `REVIEWED` overrides them, each
line with its reason.  Names of checkpoints that no class in these packages
makes (the original Mixtral, Stable Diffusion, quantisers' suffixes ...) are
labelled by hand in names/by_hand.tsv, in the same columns.

Numbers in names are kept only in their last occurrence (the deepest layer),
so that the table stays small; llama, gpt2 and t5 have 13 layers.  The last column
holds up to four of the architectures that have the name.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import diffusers  # noqa: E402
import gguf  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from torch import nn  # noqa: E402
from transformers.models.auto import modeling_auto as auto  # noqa: E402

FOLDER = pathlib.Path(__file__).parent / "data" / "names"

ARCHITECTURES = """
albert apertus arcee aria audio-spectrogram-transformer bamba bart beit bert big_bird biogpt
bit blenderbot blip blip-2 bloom camembert canine clap clip clipseg codegen cohere cohere2
convbert convnext convnextv2 ctrl cvt deberta deberta-v2 decision_transformer deepseek_v2
deepseek_v3 deit dinov2 dinov3_vit distilbert donut-swin dpr dpt efficientnet electra ernie
ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1 falcon_mamba flaubert fnet focalnet fsmt
funnel fuyu gemma gemma2 gemma3 git glm glm4 glm4_moe glm4v gpt2 gpt_bigcode gpt_neo
gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid granitemoeshared hubert idefics2
idefics3 imagegpt internvl jamba jetmoe layoutlm led levit lfm2 lilt llama llama4_text llava
llava_next longformer longt5 luke m2m_100 mamba mamba2 marian mbart megatron-bert minimax
mistral mistral3 mixtral mllama mobilebert mobilevit modernbert modernbert-decoder moonshine
moshi mpnet mpt mt5 nemotron_h nllb-moe nystromformer olmo olmo2 olmoe openai-gpt opt owlvit
paligemma pegasus perceiver persimmon phi phi3 phimoe pix2struct pixtral plbart poolformer
prophetnet qwen2 qwen2_5_vl qwen2_audio qwen2_moe qwen2_vl qwen3 qwen3_moe qwen3_next
qwen3_vl recurrent_gemma regnet rembert resnet roberta roberta-prelayernorm roformer rwkv
seamless_m4t segformer siglip siglip2 smollm3 smolvlm speech_to_text squeezebert stablelm
starcoder2 swin swinv2 switch_transformers t5 t5gemma tapas timesformer trocr umt5 vilt vit
vit_mae vitdet vits vivit wav2vec2 wav2vec2-bert wavlm whisper xglm xlm xlm-roberta xlnet
xlstm yolos zamba zamba2
""".split()  # noqa: SIM905

DEEP = {"llama", "gpt2", "t5"}

HEADS_FIRST = [
    auto.MODEL_FOR_CAUSAL_LM_MAPPING,
    auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    auto.MODEL_FOR_PRETRAINING_MAPPING,
    auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    auto.MODEL_FOR_CTC_MAPPING,
    auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    auto.MODEL_FOR_OBJECT_DETECTION_MAPPING,
    auto.MODEL_MAPPING,
]

# Classes, looked at from the parameter outwards.  The first that matches wins.
NORM = re.compile(
    r"Norm(\d+d|Zero\w*|Continuous|Single|Gated)?$|Norm$|FrozenBatchNorm|NormActivation"
)
CLASSES = [
    ("router", re.compile(r"Router|Top[Kk\d]\w*Gat|MoEGate")),
    (
        "attention",
        re.compile(r"(?<!Residual)Attention(?!PoolingHead)|Attn|MultiHead(?!\w*PoolingHead)"),
    ),
    (
        "mlp",
        re.compile(
            r"MLP$|Mlp$|FeedForward|FFN|Experts?$|MoE$|Moe$|MoeBlock|Dense(Gated)?Act"
            r"|Intermediate$|SharedMLP|DenseReluDense|MoELayer$|LayerFF"
        ),
    ),
    ("embedding", re.compile(r"Embed(ding|dings|der|s)?\w*$")),
    (
        "output",
        re.compile(
            r"(LMHead|LMPredictionHead|PreTrainingHeads|OnlyMLMHead|ClassificationHead"
            r"|PoolingHead|Classifier|Pooler|Predictions|SequenceSummary|Head)$"
        ),
    ),
]

# A block holds an attention among other things, whatever it is called.
BLOCK = re.compile(r"(Attn\w*|Attention)(Down|Up|Mid)?(Block(2D)?|Layer)$|MidBlock2DCrossAttn$")

# What a name is in spite of its classes: a pattern, the kind, and the reason.
REVIEWED = [
    (
        r"(cls|mask|distillation|register|dist|pooling|query)_tokens?$",
        "embedding",
        "learned tokens",
    ),
    (
        r"(^|\.)((decoder_)?pos_embed|masked_spec_embed|class_embedding|positional_embedding"
        r"|position_embeddings?|class_pos_emb|level_embed|mask_emb)(\.\w+)?$",
        "embedding",
        "parameters of a model, not of an embedding class",
    ),
    (
        r"(embed_(action|return|state)|embeddings_project|vision_embed_tokens|[xk]_embedder"
        r"|context_embedder|decoder_embed|time_emb_proj|embedding_hidden_mapping_in)\.\w+$",
        "embedding",
        "linear layers that make or resize embeddings",
    ),
    (
        r"(conv_in|conv_stem\.convolution|patch_conv|audio_tower\.conv[12]|encoder\.conv[123])\.\w+$",
        "embedding",
        "the convolution that turns pixels or audio into hidden states",
    ),
    (
        r"(^(encoder\.|decoder\.)?(conv_out|proj_out)|\.output_projection|^vocab_transform"
        r"|\.decoder_pred|\.pooler)\.(weight|bias)$",
        "output",
        "what makes the model's result, without a class of its own",
    ),
    (r"^logit_(scale|bias)|^final_logits_bias$", "output", "scales and shifts the scores"),
    (r"inv_freq$", "other", "a table computed from the config, not learned"),
    (
        r"\.fc[12]\.\w+$",
        "mlp",
        "BART, OPT, Whisper: the feed-forward lies directly in the block",
    ),
    (
        r"\.ffn(_output)?\.(\d\.)?\w+$|\.proj_mlp\.\w+$",
        "mlp",
        "Albert, CTRL, Flux: likewise, and they say so",
    ),
    (r"linear_attn\.(?!norm)", "attention", "GatedDeltaNet calls itself linear attention"),
    (r"attentions\.\d+\.proj_(in|out)\.", "attention", "into and out of a block of attentions"),
    (
        r"relative_attention_bias\.",
        "attention",
        "MPNet keeps it outside of the attention it serves",
    ),
    (
        r"self_attention\.experts\.\w+_linear",
        "attention",
        "JetMoE's mixture of attention heads",
    ),
    (
        r"\.layer\.2\.attention\.\d\.",
        "attention",
        "RegNet's squeeze-and-excite calls itself so",
    ),
    (r"bottleneck\.attention\.dense\.", "attention", "MobileBERT: makes the attention's input"),
    (r"bottleneck\.input\.dense\.", "mlp", "MobileBERT: a dense layer of the block"),
    (r"\.(intermediate|output)\.conv1d\.", "mlp", "SqueezeBERT's feed-forward is convolutions"),
    (r"\.post_attention\.conv1d\.", "attention", "SqueezeBERT's output projection"),
    (r"merger\.mlp\.\d\.", "mlp", "Qwen-VL names it so"),
    (
        r"connector\.modality_projection\.",
        "other",
        "projectors between towers are other, here too",
    ),
    (
        r"levit\..*\.linear_(up|down)\.linear",
        "other",
        "only its position says that it is an mlp's",
    ),
    (
        r"levit\..*\.projection\.linear",
        "other",
        "the name says nothing of the attention it belongs to",
    ),
    (r"^transformer\.w\.weight$", "other", "CTRL's embedding is called w"),
    (
        r"focalnet\..*downsample\.projection\.",
        "other",
        "a patch embedding that calls itself downsample",
    ),
    (r"visual_projection\.1\.", "other", "the norm is the second in a list; nothing says so"),
]


@dataclasses.dataclass(frozen=True)
class Truth:
    kind: str
    marks: str = ""
    stack: str = ""
    layer: int = -1
    expert: int = -1


def shrink(config: transformers.PretrainedConfig, layers: int) -> None:
    """Fewer layers and experts, here and in the configs inside."""
    for key, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            shrink(value, layers)
        elif isinstance(value, int) and not isinstance(value, bool):
            if re.fullmatch(
                r"(num_(hidden|encoder|decoder)_layers|n_layers?|num_layers|(en|de)coder_layers|depth)",
                key,
            ):
                if value > 2:
                    setattr(config, key, layers)
            elif "experts" in key and "per" not in key and value > 4:
                setattr(config, key, 4)


def build(arch: str) -> nn.Module:
    kind = transformers.CONFIG_MAPPING[arch]
    options = [c[kind] for c in HEADS_FIRST if kind in c]
    chosen = options[0] if options else None
    if isinstance(chosen, (tuple, list)):
        chosen = chosen[0]
    if chosen is None:
        raise LookupError("no class")
    failure: Exception | None = None
    for small in (True, False):
        config = kind()
        try:
            if small:
                shrink(config, 13 if arch in DEEP else 2)
            with torch.device("meta"):
                return chosen(config)
        except Exception as error:  # some configs cannot be shrunk: try whole
            failure = error
    raise failure  # type: ignore[misc]


def way_to(model: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """The modules from the top down to the owner of a parameter."""
    way, module = [], model
    parts = name.split(".")[:-1]
    for i, part in enumerate(parts):
        inner = getattr(module, part, None)
        if not isinstance(inner, nn.Module):
            break
        module = inner
        way.append((".".join(parts[: i + 1]), module))
    return way


def class_of(module: nn.Module) -> str:
    return type(module).__name__


def in_attention(way: list[tuple[str, nn.Module]]) -> bool:
    """Whether an attention lies above, in the same block."""
    for _, module in reversed(way):
        if isinstance(module, nn.ModuleList):
            return False
        if CLASSES[1][1].search(class_of(module)):
            return True
    return False


def kind_by_class(model: nn.Module, name: str, heads: set[str]) -> str:
    way = way_to(model, name)
    if any(NORM.search(class_of(module)) for _, module in way):
        return "normalization"
    if any(path in heads for path, _ in way):
        return "output"
    for i in range(len(way) - 1, -1, -1):
        module = way[i][1]
        containers = (
            transformers.PreTrainedModel,
            diffusers.ModelMixin,
            nn.ModuleList,
            nn.Sequential,
        )
        if isinstance(module, containers) or BLOCK.search(class_of(module)):
            continue
        for kind, pattern in CLASSES:
            if not pattern.search(class_of(module)):
                continue
            if kind == "embedding" and in_attention(way[:i]):
                return "attention"
            return kind
        if class_of(module).endswith("Output"):
            return "attention" if in_attention(way[:i]) else "mlp"
    return "other"


def heads_of(model: nn.Module) -> set[str]:
    """Paths of what makes scores: tied or not, and heads of the task."""
    heads = set()
    output = getattr(model, "get_output_embeddings", lambda: None)()
    for path, module in model.named_modules():
        if module is output and path and "embed" not in path:
            heads.add(path)
    if re.search(r"For[A-Z]|LMHead|DoubleHeads", class_of(model)):
        for path, _ in model.named_children():
            if path in {
                "classifier",
                "score",
                "qa_outputs",
                "fc",
                "lm_head",
                "projector",
                "pre_classifier",
            }:
                heads.add(path)
    return heads


NO_STACK = re.compile(r"Experts?$|MLP$|Mlp$|FeedForward$|FFN$|Embed|Head$|Attention$")


def place_by_class(model: nn.Module, name: str) -> tuple[str, int]:
    """The outermost list of blocks; a block has modules of its own."""
    above: nn.Module = model
    for path, module in way_to(model, name):
        number = path.rsplit(".", 1)[-1]
        in_list = isinstance(above, (nn.ModuleList, nn.Sequential)) and "." in path
        # A list of mere convolutions counts where it is called layers.
        is_block = any(True for _ in module.children()) or re.search(
            r"(layers|blocks|flows)\.\d+$", path
        )
        if (
            in_list
            and number.isdigit()
            and is_block
            and not re.search("Embed", class_of(module))
        ):
            return path.rsplit(".", 1)[0], int(number)
        if NO_STACK.search(class_of(module)):
            return "", -1
        above = module
    return "", -1


def expert_by_class(model: nn.Module, name: str) -> tuple[str, int]:
    """Marks and number by the classes and attributes on the way."""
    if re.search(r"\.mlp\.(in|out)put_linear", name):
        return "", -1  # JetMoE: all experts, but only a class says so
    marks, number, above = "", -1, ""
    for path, module in way_to(model, name):
        last = path.rsplit(".", 1)[-1]
        if re.fullmatch(r"shared_(experts?|mlp)(_gate)?", last):
            marks = "shared_expert"
        elif re.search(r"Experts$", class_of(module)) or last == "experts":
            marks = "expert"
        if above == "expert" and last.isdigit():
            number = int(last)
        if (switch := re.fullmatch(r"expert_(\d+)", last)) is not None:
            number = int(switch[1])
        above = marks if last == "experts" else ""
    return marks, number


def truth_of(model: nn.Module, name: str, heads: set[str]) -> Truth:
    kind = kind_by_class(model, name, heads)
    marks = set()
    expert_mark, expert = expert_by_class(model, name)
    if expert_mark:
        marks.add(expert_mark)
    if kind == "router" or "shared_expert_gate" in name:
        marks.add("router")
    if kind == "router":
        kind = "mlp"
        marks.discard("expert")
    if "bias" in name.rsplit(".", 1)[-1].split("_"):
        marks.add("bias")
    for pattern, reviewed, _ in REVIEWED:
        if re.search(pattern, name):
            kind = reviewed
            break
    stack, layer = place_by_class(model, name)
    return Truth(kind, ",".join(sorted(marks)), stack, layer, expert)


def rows_of(model: nn.Module) -> Iterator[tuple[str, Truth]]:
    heads = heads_of(model)
    for name in model.state_dict():
        yield name, truth_of(model, name, heads)


def diffusion() -> Iterator[tuple[str, nn.Module]]:
    with torch.device("meta"):
        yield "diffusers-unet", diffusers.UNet2DConditionModel()
        yield (
            "diffusers-unet-xl",
            diffusers.UNet2DConditionModel(
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
                down_block_types=(
                    "DownBlock2D",
                    "CrossAttnDownBlock2D",
                    "CrossAttnDownBlock2D",
                ),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(320, 640, 1280),
                transformer_layers_per_block=(1, 2, 10),
                use_linear_projection=True,
                cross_attention_dim=2048,
            ),
        )
        yield "diffusers-vae", diffusers.AutoencoderKL()
        yield "diffusers-sd3", diffusers.SD3Transformer2DModel(num_layers=2)
        yield (
            "diffusers-flux",
            diffusers.FluxTransformer2DModel(num_layers=2, num_single_layers=2),
        )
        yield "diffusers-controlnet", diffusers.ControlNetModel()
        yield (
            "diffusers-pixart",
            diffusers.PixArtTransformer2DModel(num_layers=2, caption_channels=64),
        )


def kohya(model: nn.Module) -> Iterator[tuple[str, Truth]]:
    """Names of LoRA files for a UNet: '_' for '.', the truth of the module."""
    for path, module in model.named_modules():
        if not isinstance(module, nn.Linear) or "attentions" not in path:
            continue
        truth = truth_of(model, path + ".weight", set())
        stem = "lora_unet_" + path.replace(".", "_")
        stack = "lora_unet_" + truth.stack.replace(".", "_")
        for end in ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale"):
            yield f"{stem}.{end}", dataclasses.replace(truth, stack=stack, marks="lora")


def adapters() -> Iterator[tuple[str, str, Truth]]:
    """LoRA and DoRA on a Llama: the truth is that of the module adapted."""
    for arch, use_dora in (("peft-lora", False), ("peft-dora", True)):
        config = transformers.LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=16,
        )
        shrink(config, 2)
        base = transformers.LlamaForCausalLM(config)
        truths = dict(rows_of(base))
        targets = ["q_proj", "o_proj", "down_proj", "gate_proj", "embed_tokens"]
        model = peft.get_peft_model(
            base,
            peft.LoraConfig(
                r=2, target_modules=targets, use_dora=use_dora, modules_to_save=["lm_head"]
            ),
        )
        for name in model.state_dict():
            plain = re.sub(
                r"\.(base_layer|lora_\w+|modules_to_save|original_module|default)\b",
                "",
                name.removeprefix("base_model.model."),
            )
            if plain not in truths:
                plain += ".weight"
            truth = truths[plain]
            stack = "base_model.model." + truth.stack if truth.stack else ""
            yield (
                arch,
                name,
                dataclasses.replace(
                    truth, stack=stack, marks="lora" if "lora_" in name else truth.marks
                ),
            )


# By the names of the enum, first match.  Kind, then marks.
GGUF = [
    (r"ROPE|ATTN_ROT_EMBD", "other", ""),
    (r"NORM_EXP$", "normalization", "expert"),
    (r"NORM|_LN", "normalization", ""),
    (r"MSFA_EXP", "mlp", ""),
    (r"MMPROJ_MLP|A_MMPROJ$", "mlp", ""),
    (r"GATE_INP_SHEXP", "mlp", "router,shared_expert"),
    (r"GATE_INP|EXP_PROBS_B", "mlp", "router"),
    (r"_SHEXP", "mlp", "shared_expert"),
    (r"_C?HEXP$|_EXP$|CHEXP", "mlp", "expert"),
    (r"SSM|TIME_MIX|ALTUP|LAUREL|SHORTCONV|V_MM_|A_MM|V_MMPROJ", "other", ""),
    (r"NEXTN_EMBED|TOKEN_EMBD|TOKEN_TYPES|POS_EMBD|EMBD_(CLS|PATCH|POS)", "embedding", ""),
    (r"ATTN|V_RESMPL_(KV|QUERY)|INDEXER_ATTN", "attention", ""),
    (r"FFN|CHANNEL_MIX|_MLP_", "mlp", ""),
    (r"^(DEC_|ENC_)?OUTPUT$|^CLS|HEAD_HEAD|DENSE_\d_OUT", "output", ""),
]


def gguf_rows() -> Iterator[tuple[str, str, Truth]]:
    users = collections.defaultdict(list)
    for arch, tensors in gguf.MODEL_TENSORS.items():
        for tensor in tensors:
            users[tensor].append("gguf-" + gguf.MODEL_ARCH_NAMES[arch])
    for tensor, archs in users.items():
        pattern = gguf.TENSOR_NAMES[tensor]
        rule = next((r for r in GGUF if re.search(r[0], tensor.name)), None)
        if rule is None:
            continue  # no convention says what it is
        _, kind, marks = rule
        # The numbers of a projector ("mm.0") are no layers.
        in_list = ".{bid}" in pattern and not pattern.startswith("mm.")
        stack = pattern.split(".{bid}")[0] if in_list else ""
        layer = 12 if in_list else -1
        name = pattern.replace("{bid}", "12")
        for end in ("weight", "bias"):
            found = {*marks.split(","), "bias" if end == "bias" else ""} - {""}
            for arch in archs:
                yield arch, f"{name}.{end}", Truth(kind, ",".join(sorted(found)), stack, layer)


def everything() -> Iterator[tuple[str, str, Truth]]:
    for arch in ARCHITECTURES:
        try:
            model = build(arch)
        except Exception as error:
            print(
                f"left out {arch}: {str(error).strip().splitlines()[0][:90]}", file=sys.stderr
            )
            continue
        for name, truth in rows_of(model):
            yield arch, name, truth
    for arch, model in diffusion():
        for name, truth in rows_of(model):
            yield arch, name, truth
        if arch == "diffusers-unet":
            for name, truth in kohya(model):
                yield "kohya-unet", name, truth
    yield from adapters()
    yield from gguf_rows()


def main() -> None:
    table: dict[str, Truth] = {}
    archs: dict[str, list[str]] = collections.defaultdict(list)
    last: dict[tuple[str, str], str] = {}
    for arch, name, truth in everything():
        known = table.setdefault(name, truth)
        if known != truth:
            sys.exit(f"{name}: {known} in {archs[name][:3]}, but {truth} in {arch}")
        archs[name].append(arch)
        number = r"\d+" if arch == "kohya-unet" else r"(?<=\.)\d+(?=\.)"
        last[arch, re.sub(number, "#", name)] = name
    kept = sorted(set(last.values()), key=lambda name: (archs[name][0], name))
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "names.tsv", "w", encoding="utf-8") as out:
        out.write("# made by tests/make_names.py with ")
        out.write(
            ", ".join(f"{m.__name__} {m.__version__}" for m in (transformers, diffusers, peft))
            + "\n"
        )
        out.write("name\tkind\tmarks\tstack\tlayer\texpert\tarchitectures\n")
        for name in kept:
            t = table[name]
            who = sorted(set(archs[name]))
            out.write(
                "\t".join(
                    [
                        name,
                        t.kind,
                        t.marks,
                        t.stack,
                        str(t.layer),
                        str(t.expert),
                        " ".join(who[:4]),
                    ]
                )
                + "\n"
            )
    print(len(kept), "names of", len({a for n in kept for a in archs[n]}), "architectures")


if __name__ == "__main__":
    main()
