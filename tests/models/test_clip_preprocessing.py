"""What a model folder says about images and texts is followed, to the features of open_clip's and transformers' own
loading, or refused."""

import json

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image

from dassl.data import build_transform
from ogkd import models
from ogkd.models.checkpoints import CHECKPOINTS
from ogkd.models.convert import convert
from ogkd.runs.config import build_config
from ogkd.runs.spec import RunSpec
from ogkd.tuning.prompt_learner import PromptLearner
from tests.support import tiny_models

TEXTS = [
    "",
    "A  cyst, 3.5 cm &amp; TWO_masses (left)!",
    "Ödem — naïve “quotes”\tand\ntabs",
    "the\u3000brain’s",
    *("cyst", "X-RAY/ct", "CAFÉ cafe\u0301", "&lt;b&gt; bold", "ÃƒÂ© twice encoded", "don't they'll", "1,234.5 mm²"),
    *("ﬁbrosis", "α-fetoprotein µg", "ẞ ß", "İstanbul", "a photo of a cyst.", "...", "the_the-the", " of  the ", "é"),
]
SIDES = [(32, 32), (31, 57), (90, 33), (7, 5), (200, 47), (13, 101), (33, 35), (64, 71), (2, 40)]


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (*side, 3), dtype=np.uint8)) for side in SIDES]


def changed(folder, preprocess_cfg=None, **towers) -> None:
    """Change the sections of a configuration: changed(folder, preprocess_cfg={...}, text_cfg={...})."""
    tiny_models.edit(folder / "open_clip_config.json", preprocess_cfg=preprocess_cfg or {}, model_cfg=towers)


def seen(folder) -> torch.Tensor:
    """The images as a run on this model sees them."""
    cfg = build_config(RunSpec("ZeroShot", "out", "phantom", backbone=str(folder), pairs=("VERBOSE", "False")))
    transform = build_transform(cfg, is_train=False)
    return torch.stack([transform(image) for image in pictures()])


def same_direction(ours, theirs) -> None:
    cosines = torch.nn.functional.cosine_similarity(ours.double(), theirs.double())
    assert (1 - cosines).abs().max() < 1e-6


def has_open_clips_features(folder) -> None:
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    ours = models.load(folder)
    tokens = ours.tokenize(TEXTS)
    with torch.no_grad():
        images = torch.stack([preprocess(image) for image in pictures()])
        same_direction(ours.encode_image(seen(folder)).global_token, theirs.eval().encode_image(images))
        ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        same_direction(ours.encode_text(ours.embed(tokens.ids), tokens.mask), theirs.encode_text(ids))


@pytest.fixture
def native(tmp_path):
    """A folder with CLIP's own towers."""
    tiny_models.native_clip(tmp_path / "native")
    return tmp_path / "native"


@pytest.fixture
def bert(tmp_path):
    """A folder with a BERT that open_clip can build from the folder itself."""
    folder = tiny_models.biomedclip(tmp_path / "bert")
    tiny_models.write_text_config(folder)
    changed(folder, text_cfg={"hf_model_name": str(folder)})
    return folder


@pytest.mark.parametrize(
    "preprocess",
    [
        {"interpolation": "random", "resize_mode": None},
        {"resize_mode": "squash", "interpolation": "bilinear", "size": [32, 32], "mode": "RGB", "fill_color": 0},
        {"resize_mode": "squash", "mean": 0.5, "std": 0.5, "size": 32, "fill_color": 7},
        {"resize_mode": "longest"},
    ],
)
def test_images_are_prepared_as_the_folder_says(native, preprocess):
    changed(native, preprocess_cfg=preprocess)
    has_open_clips_features(native)


@pytest.mark.parametrize("options", [{"clean": "canonicalize"}, {"clean": "whitespace", "reduction_mask": "shuffle"}])
def test_texts_are_cleaned_as_the_folder_says(native, options):
    changed(native, text_cfg={"tokenizer_kwargs": options})
    has_open_clips_features(native)


@pytest.mark.parametrize(
    "text_cfg",
    [
        {"tokenizer_kwargs": {"clean": "canonicalize"}},
        {"tokenizer_kwargs": {"clean": "lower", "strip_sep_token": True}},
        {"tokenizer_kwargs": {"strip_sep_token": True}, "hf_pooler_type": "mean_pooler"},
    ],
)
def test_a_bert_reads_texts_as_the_folder_says(bert, text_cfg):
    changed(bert, text_cfg=text_cfg)
    has_open_clips_features(bert)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"preprocess_cfg": {"resize_mode": "pad"}}, "preprocess_cfg.resize_mode 'pad'"),
        ({"preprocess_cfg": {"interpolation": "lanczos"}}, "preprocess_cfg.interpolation 'lanczos'"),
        ({"preprocess_cfg": {"resize_mode": "longest", "fill_color": 127}}, "preprocess_cfg.fill_color 127"),
        ({"preprocess_cfg": {"size": [32, 48]}}, r"\[32, 48\], which are not square"),
        ({"preprocess_cfg": {"mean": [0.5]}}, "preprocess_cfg.mean is not"),
        ({"preprocess_cfg": {"mean": [123.7, 116.3, 103.5]}}, "preprocess_cfg.mean is not .* at most 1"),
        ({"preprocess_cfg": {"crop_pct": 0.9}}, "preprocess_cfg.crop_pct"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "upper"}}}, "tokenizer_kwargs.clean 'upper'"),
        ({"text_cfg": {"tokenizer_kwargs": {"reduction_mask": "syntax"}}}, "tokenizer_kwargs.reduction_mask 'syntax'"),
        ({"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, "tokenizer_kwargs.strip_sep_token True"),
        ({"text_cfg": {"tokenizer_kwargs": {"additional_special_tokens": ["<x>"]}}}, "additional_special_tokens"),
        ({"text_cfg": {"pool_type": "eos"}}, "pooling at the token 2, where texts end|cannot build"),
        ({"text_cfg": {"no_causal_mask": True}}, "Text without a causal mask"),
    ],
)
def test_what_cannot_be_followed_is_refused(native, sections, words):
    changed(native, **sections)
    with pytest.raises(models.ModelError, match=words):
        models.load(native)


@pytest.mark.parametrize(
    ("towers", "words"),
    [
        ({"vision_cfg": {"attentional_pool": True, "attn_pooler_heads": 2}}, "attention pooling"),
        ({"text_cfg": {"embed_cls": True}}, "embed_cls"),
    ],
)
def test_cocas_pooling_is_refused(native, towers, words):
    changed(native, **towers, custom_text=True)
    cfg = json.loads((native / "open_clip_config.json").read_text())["model_cfg"]
    del cfg["custom_text"]
    torch.save(open_clip.CustomTextCLIP(**cfg).state_dict(), native / "open_clip_pytorch_model.bin")
    with pytest.raises(models.ModelError, match=words):
        models.load(native)


@pytest.mark.parametrize(
    ("text_cfg", "tokenizer", "words"),
    [
        ({"tokenizer_kwargs": {"language": "de"}}, {}, "tokenizer_kwargs.language 'de'"),
        ({"hf_pooler_type": "max_pooler"}, {}, "hf_pooler_type max_pooler"),
        ({}, {"padding_side": "left"}, "pads at the start"),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_text_tower_is_refused(bert, text_cfg, tokenizer, words):
    changed(bert, text_cfg=text_cfg)
    tiny_models.edit(bert / "tokenizer_config.json", **tokenizer)
    with pytest.raises(models.ModelError, match=words):
        models.load(bert)


def test_a_text_tower_that_pads_with_another_token_than_its_tokenizer_is_refused(bert):
    tiny_models.write_text_config(bert, pad_token_id=1)
    with pytest.raises(models.ModelError, match="pads with 1 and a tokenizer with 0"):
        models.load(bert)


def test_a_text_longer_than_open_clip_reads_is_refused(native):
    changed(native, text_cfg={"context_length": 77})
    content = json.loads((native / "open_clip_config.json").read_text())
    del content["model_cfg"]["text_cfg"]["context_length"]
    (native / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(models.ModelError, match="reads at most 77"):
        models.load(native).tokenize(["cyst " * 80])


def has_transformers_features(folder) -> None:
    # Version 5 has a second processor, on torchvision's tensors, whose rounding differs; published models were trained
    # and tested with that on Pillow's images.
    kind = json.loads((folder / "config.json").read_text())["model_type"].capitalize().replace("Clip", "CLIP")
    name = f"{kind}ImageProcessor"
    processor = getattr(transformers, f"{name}Pil", getattr(transformers, name)).from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    ours = models.load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", max_length=ours.context_length, return_tensors="pt")
    tokens = ours.tokenize(TEXTS)
    with torch.no_grad():
        images = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in pictures()])
        out = theirs(pixel_values=images, **ids)
        same_direction(ours.encode_image(seen(folder)).global_token, out.image_embeds)
        same_direction(ours.encode_text(ours.embed(tokens.ids), tokens.mask), out.text_embeds)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())


PREPROCESSOR = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "size": 32, "crop_size": 32}


@pytest.fixture(scope="module")
def pubmedclip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pubmedclip")
    tiny_models.transformers_clip(folder)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
        {"size": {"height": 32, "width": 32}, "do_center_crop": None, "do_convert_rgb": True},
        {"do_normalize": False, "image_processor_type": "CLIPImageProcessor", "rescale_factor": 1 / 255},
    ],
)
def test_images_and_texts_are_prepared_as_transformers_prepares_them(pubmedclip, options):
    (pubmedclip / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | options))
    has_transformers_features(pubmedclip)


def test_the_settings_of_images_are_also_read_where_version_5_stores_them(pubmedclip):
    (pubmedclip / "preprocessor_config.json").unlink(missing_ok=True)
    (pubmedclip / "processor_config.json").write_text(json.dumps({"image_processor": PREPROCESSOR | {"resample": 2}}))
    assert models.image_spec(pubmedclip)[3:] == ("bilinear", "shortest_down")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"do_resize": False}, "do_resize false"),
        ({"do_rescale": False}, "do_rescale false"),
        ({"do_center_crop": False}, "size 32"),
        ({"size": {"shortest_edge": 40}}, "shortest_edge"),
        ({"crop_size": 24}, "crop_size 24"),
        ({"resample": 1}, "resample 1"),
        ({"rescale_factor": 1.0}, "rescale_factor 1.0"),
        ({"image_processor_type": "CLIPSegImageProcessor"}, "CLIPSegImageProcessor"),
        ({"do_pad": True}, "do_pad"),
    ],
)
def test_what_transformers_would_do_and_this_does_not_is_refused(pubmedclip, options, words):
    (pubmedclip / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | options))
    with pytest.raises(models.ModelError, match=words):
        models.image_spec(pubmedclip)


def test_text_pooled_elsewhere_than_at_its_end_is_refused(tmp_path):
    tiny_models.transformers_clip(tmp_path)
    tiny_models.edit(tmp_path / "config.json", text_config={"eos_token_id": 5})
    with pytest.raises(models.ModelError, match="pooling at the token 5, where texts end with the token"):
        models.load(tmp_path)


@pytest.mark.parametrize("projected", [True, False])
def test_a_network_of_timm_that_gives_no_vector_per_image_is_refused(tmp_path, projected):
    tiny_models.convnext_clip(tmp_path, "mambaout_femto")
    with pytest.raises(models.ModelError, match="has a pooling"):
        models.load(tmp_path).encode_image(torch.zeros(1, 3, 64, 64), projected=projected)


def test_towers_under_their_former_names_are_read(tmp_path):
    tiny_models.transformers_clip(tmp_path)
    images, before = torch.randn(2, 3, 32, 32), models.load(tmp_path)
    content = (tmp_path / "config.json").read_text()
    for name in ("text_config", "vision_config"):
        content = content.replace(f'"{name}":', f'"{name}_dict":')
    (tmp_path / "config.json").write_text(content)
    assert torch.equal(models.load(tmp_path).encode_image(images)[0], before.encode_image(images)[0])


def test_a_network_of_timm_has_open_clips_features(tmp_path):
    tiny_models.convnext_clip(tmp_path)
    has_open_clips_features(tmp_path)


def test_a_tower_that_can_also_give_its_tokens_has_the_same_features(native):
    images, before = torch.randn(2, 3, 32, 32), models.load(native)
    changed(native, vision_cfg={"output_tokens": True})
    assert torch.equal(models.load(native).encode_image(images)[0], before.encode_image(images)[0])


def test_a_tower_that_does_not_pool_is_refused(native):
    changed(native, vision_cfg={"pool_type": "none"})
    with pytest.raises(models.ModelError, match="has a pooling"):
        models.load(native).encode_image(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("family", [family for family in CHECKPOINTS if family != "UniMed-CLIP"])
def test_a_converted_folder_has_open_clips_features(tmp_path, family):
    tiny_models.checkpoint(tmp_path / "weights.pt", family)
    convert(tmp_path / "weights.pt", family, tmp_path / "folder")
    has_open_clips_features(tmp_path / "folder")


def test_open_clips_siglip_has_its_features(tmp_path):
    tiny_models.open_clip_siglip(tmp_path)
    has_open_clips_features(tmp_path)
    assert models.load(tmp_path).logit_bias == pytest.approx(-10)


def test_transformers_siglip_has_its_features(tmp_path):
    tiny_models.transformers_siglip(tmp_path)
    has_transformers_features(tmp_path)


def test_context_vectors_come_first_where_a_tokenizer_marks_no_start(tmp_path):
    tiny_models.transformers_siglip(tmp_path)
    model = models.load(tmp_path)
    for position, text in (("end", "abcyst."), ("front", "cystab."), ("middle", "acystb.")):
        learner = PromptLearner(model, ["cyst"], n_ctx=2, ctx_init="ab", position=position)
        tokens = model.tokenize([text])
        expected = model.encode_text(model.embed(tokens.ids), tokens.mask)
        torch.testing.assert_close(model.encode_text(*learner()), expected, rtol=0, atol=1e-5)


def test_siglips_tokenizer_is_not_replaced_by_one_that_keeps_punctuation(tmp_path):
    tiny_models.transformers_siglip(tmp_path)
    tiny_models.edit(tmp_path / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    with pytest.raises(models.ModelError, match=r"needs packages .*sentencepiece|cannot be read"):
        models.load(tmp_path)


@pytest.mark.parametrize("make", [tiny_models.open_clip_siglip, tiny_models.transformers_siglip])
def test_a_patch_of_siglip_is_what_its_pool_gives_for_that_patch_alone(tmp_path, make):
    """With queries of zero, the pool attends to all patches alike; its MLP must change nothing to compare means."""
    make(tmp_path)
    model = models.load(tmp_path)
    tower = model.image_tower
    pool = tower.vision_model.head if hasattr(tower, "vision_model") else tower.pool
    last = pool.mlp.fc2
    with torch.no_grad():
        (pool.q.weight if hasattr(pool, "q") else pool.attention.in_proj_weight[:64]).zero_()
        (pool.q.bias if hasattr(pool, "q") else pool.attention.in_proj_bias[:64]).zero_()
        last.weight.zero_(), last.bias.zero_()
        out = model.encode_image(torch.randn(2, 3, 32, 32), patches=True)
    torch.testing.assert_close(out.patch_tokens.mean(1), out.global_token, rtol=0, atol=1e-4)
