from .domain_distance import domain_distance as domain_distance
from .rules import Advice as Advice
from .rules import AdvisedArm as AdvisedArm
from .rules import Facts as Facts
from .rules import Reason as Reason
from .rules import advise as advise
