"""Built-in strategies: a function of the strategy's name, by its module.

The table needs no JAX, so that a recipe's settings and `--help` can list it.
"""

PRESETS = {
    "frozen": "presets.whole_backbone",
    "full": "presets.whole_backbone",
    "two_phase": "presets.whole_backbone",
    "linear_probe_then_finetune": "presets.whole_backbone",
    "partial": "presets.by_stage",
    "backbone_and_head": "presets.whole_backbone",
    "discriminative": "presets.by_stage",
    "layerwise_decay": "presets.by_stage",
    "gradual_unfreezing": "presets.by_stage",
    "norm_only": "presets.by_parameter",
    "bias_only": "presets.by_parameter",
    "l2_sp": "presets.whole_backbone",
    "lora": "presets.adapters",
    "sequence": "registry",
}
# Named and compared like strategies, but they train no network.
FEATURE_CLASSIFIERS = {
    "k_nn": "presets.feature_classifiers",
    "logistic_regression": "presets.feature_classifiers",
}
BUILT_IN = PRESETS | FEATURE_CLASSIFIERS
