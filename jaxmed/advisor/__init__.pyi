from .advice import Advice as Advice
from .advice import Alternative as Alternative
from .advice import Reason as Reason
from .advisor import advise as advise
from .domain_distance import domain_distance as domain_distance
