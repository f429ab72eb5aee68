from .detector import OutOfDistributionDetector as OutOfDistributionDetector
from .record import Arm as Arm
from .record import RunRecord as RunRecord
from .record import read_experiment as read_experiment
from .record import read_run as read_run
from .trained_model import TrainedModel as TrainedModel
from .trained_model import read_trained_model as read_trained_model
from .trained_model import write_trained_model as write_trained_model
