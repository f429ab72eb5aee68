from .batch_finder import find_batch_sizes as find_batch_sizes
from .class_weights import balanced_weights as balanced_weights
from .class_weights import positive_weights as positive_weights
from .config import CacheSettings as CacheSettings
from .config import TrainingConfig as TrainingConfig
from .fit import FitResult as FitResult
from .lr_finder.sweep import find_learning_rates as find_learning_rates
from .step import make_train_step as make_train_step
