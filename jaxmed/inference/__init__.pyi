from .features import compute_features as compute_features
from .forward import predict as predict
from .forward import predict_split as predict_split
from .predictor import Prediction as Prediction
from .predictor import Predictor as Predictor
from .saved_model import load_model as load_model
from .saved_model import make_predictor as make_predictor
from .saved_model import save_model as save_model
