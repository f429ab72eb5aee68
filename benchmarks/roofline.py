"""Images per second that a training step could reach on an accelerator, on paper.

    python benchmarks/roofline.py [--backbone resnet50] [--size 224] [--batch-size 256]

The step is traced on shapes, without weights and without an accelerator, in bfloat16.
Its convolutions and matrix products count with their floating-point operations and the
bytes of what they read and write; each takes the longer of the times that the card's
peak rate and its memory's bandwidth allow. Everything between them is taken as fused
as far as data allow: a chain of elementwise operations reads each array that lies in
memory once and writes what a convolution reads, and sums over the same arrays share
one pass. No real program is faster, so a measured number can be judged by it
(Williams, Waterman, Patterson, "Roofline", Communications of the ACM 52, 2009).
"""

import argparse
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

import jaxmed
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.precision import set_precision
from jaxmed.strategies import create_strategy
from jaxmed.training.state import Batch, StepPlan, begin_phase
from jaxmed.training.step import make_train_step

STRATEGIES = ("full", "partial", "frozen")
PRODUCTS = ("conv_general_dilated", "dot_general")
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_and", "argmax", "reduce_window_max")


# Arrays that a chain of elementwise operations reads before its result is written, and
# the numbers up to which an array, such as a channel's statistics, is free.
FUSED = 3
SMALL = 2**17


@dataclass(frozen=True)
class Card:
    """An accelerator's peak dense bfloat16 rate and memory bandwidth, by its maker."""

    name: str
    flops: float
    bandwidth: float


CARDS = (
    Card("H100 SXM", 989e12, 3.35e12),
    Card("A100 80 GB SXM", 312e12, 2.04e12),
    Card("TPU v5e", 197e12, 0.819e12),
)


@dataclass
class Work:
    """What a step does.

    Attributes:
        products: (operations, bytes) of each convolution and matrix product.
        other_bytes: read and written between them.
    """

    products: list[tuple[float, float]] = field(default_factory=list)
    other_bytes: float = 0.0

    def seconds(self, card: Card) -> float:
        products = sum(
            max(flops / card.flops, size / card.bandwidth)
            for flops, size in self.products
        )
        return products + self.other_bytes / card.bandwidth


def main() -> None:
    arguments = parse()
    print(
        f"{arguments.backbone}, {arguments.size} pixels, batch {arguments.batch_size}"
    )
    names = " | ".join(f"{card.name}, images/s" for card in CARDS)
    print(f"\n| trained | TFLOP | GB of products | GB between | {names} |")
    print("|---" * (4 + len(CARDS)) + "|")
    for strategy in STRATEGIES:
        traced = trace(
            arguments.backbone,
            strategy,
            size=arguments.size,
            rows=arguments.batch_size,
        )
        work = measure(traced.jaxpr)
        flops = sum(flops for flops, _ in work.products) / 1e12
        size = sum(size for _, size in work.products) / 1e9
        speeds = " | ".join(
            f"{arguments.batch_size / work.seconds(card):,.0f}" for card in CARDS
        )
        print(
            f"| {strategy} | {flops:.2f} | {size:.1f} | {work.other_bytes / 1e9:.1f} | "
            f"{speeds} |"
        )


def trace(name: str, strategy: str, *, size: int, rows: int) -> Any:
    """Trace a step of a strategy's first phase in bfloat16, on shapes alone.

    Args:
        name: of the backbone.
        strategy: a preset's name.
        size: pixels of a side of the images.
        rows: images of the batch.

    Returns:
        What `jax.jit(...).trace` returns: it has the `jaxpr`, and can `lower`.
    """
    plan = definition = None

    def begin():
        nonlocal plan, definition
        model = jaxmed.create_model(name, num_classes=8)
        set_precision(model, "bfloat16")
        phase = create_strategy(
            strategy, model, epochs=1, learning_rate=1e-3, optimizer="adam"
        ).phases[0]
        plan = StepPlan(
            phase=phase,
            preprocessing=Preprocessing(image_size=size),
            task="multiclass",
        )
        definition, state, frozen = begin_phase(model, plan)
        return state, frozen, jax.random.key(0)

    state, frozen, key = jax.eval_shape(begin)
    batch = Batch(
        jax.ShapeDtypeStruct((1, rows, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1, rows), jnp.int32),
        jax.ShapeDtypeStruct((1, rows), jnp.float32),
    )
    step = jax.jit(make_train_step(definition, plan))
    return step.trace(state, frozen=frozen, batch=batch, key=key)


@dataclass(frozen=True)
class Operation:
    """An operation of the flattened program; values are named by numbers."""

    name: str
    params: dict
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def flatten(closed: Any) -> tuple[list[Operation], dict[int, Any], list[int]]:
    """Inline the calls of a jaxpr.

    Of a choice by platform what comes last is taken, which is for accelerators.

    Returns:
        The operations in order, the shape of every value, and the program's outputs.
    """
    operations: list[Operation] = []
    shapes: dict[int, Any] = {}

    def new(aval: Any) -> int:
        shapes[len(shapes)] = aval
        return len(shapes) - 1

    def walk(jaxpr: Any, values: list[int]) -> list[int]:
        names = dict(zip(jaxpr.invars, values, strict=True))
        names |= {var: new(var.aval) for var in jaxpr.constvars}

        def of(atom: Any) -> int:
            return new(atom.aval) if isinstance(atom, Literal) else names[atom]

        for equation in jaxpr.eqns:
            inputs = [of(atom) for atom in equation.invars]
            inner, skipped = called(equation)
            if inner is not None:
                outputs = walk(inner, inputs[skipped:])
            else:
                outputs = [new(var.aval) for var in equation.outvars]
                operations.append(
                    Operation(
                        equation.primitive.name,
                        equation.params,
                        tuple(inputs),
                        tuple(outputs),
                    )
                )
            names |= dict(zip(equation.outvars, outputs, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    jaxpr = closed.jaxpr
    results = walk(jaxpr, [new(var.aval) for var in jaxpr.invars])
    return operations, shapes, results


def called(equation: Any) -> tuple[Any, int]:
    """Return the jaxpr that an equation calls, and how many inputs it does not get."""
    if "branches" in equation.params:
        return equation.params["branches"][-1].jaxpr, 1
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in equation.params:
            inner = equation.params[key]
            return getattr(inner, "jaxpr", inner), 0
    return None, 0


def measure(closed: Any) -> Work:
    """Count operations and bytes of a traced step."""
    operations, shapes, results = flatten(closed)
    made = {value: op for op in operations for value in op.outputs}
    needed = live(operations, results)
    operations = [op for op in operations if needed.intersection(op.outputs)]
    work = Work()
    sources: dict[int, frozenset[int]] = {}
    written: set[int] = set()
    passes: set[frozenset[int]] = set()

    def bytes_of(values: Any) -> float:
        return sum(prod(shapes[v].shape) * itemsize(shapes[v]) for v in values)

    def behind(value: int) -> frozenset[int]:
        """Return what lies in memory that a value is computed from, element by element.

        Small arrays, such as a channel's statistics, are free.
        """
        if value in sources:
            return sources[value]
        op = made.get(value)
        in_memory = op is None or op.name in PRODUCTS or op.name in REDUCTIONS
        found = (
            frozenset({value})
            if in_memory
            else frozenset().union(*(behind(v) for v in op.inputs))
        )
        found = frozenset(
            v for v in found if prod(shapes[v].shape) > SMALL or v == value
        )
        if len(found) > FUSED:
            work.other_bytes += bytes_of(found) + bytes_of([value])
            found = frozenset({value})
        sources[value] = found
        return found

    for op in operations:
        for value in op.outputs:
            behind(value)
        if op.name in PRODUCTS:
            for value in op.inputs:
                producer = made.get(value)
                computed = producer is not None and producer.name not in PRODUCTS
                if computed and value not in written and behind(value) != {value}:
                    # What a convolution reads lies in memory: it is written once.
                    written.add(value)
                    sources[value] = frozenset({value})
                    work.other_bytes += bytes_of([value])
                    ancestors = frozenset().union(*(behind(v) for v in producer.inputs))
                    work.other_bytes += bytes_of(ancestors - {value})
            size = bytes_of((*op.inputs, *op.outputs))
            work.products.append((flops(op, shapes), size))
        elif op.name in REDUCTIONS:
            passes.add(frozenset().union(*(behind(v) for v in op.inputs)))
    # Sums over some of the arrays that another sum reads are taken along with it.
    work.other_bytes += sum(
        bytes_of(ancestors)
        for ancestors in passes
        if not any(ancestors < others for others in passes)
    )
    ends = frozenset().union(*(behind(v) for v in results if v in made))
    return Work(work.products, work.other_bytes + bytes_of(ends | set(results)))


def live(operations: list[Operation], results: list[int]) -> set[int]:
    """Return the values that the results are computed from."""
    needed = set(results)
    for op in reversed(operations):
        if needed.intersection(op.outputs):
            needed.update(op.inputs)
    return needed


def itemsize(aval: Any) -> int:
    return getattr(aval.dtype, "itemsize", 4)


def flops(op: Operation, shapes: dict[int, Any]) -> float:
    """Count two operations a multiplication of a convolution or a matrix product."""
    left, right, out = (shapes[v].shape for v in (*op.inputs[:2], op.outputs[0]))
    if op.name == "dot_general":
        contracted = op.params["dimension_numbers"][0][0]
        return 2 * prod(out) * prod(left[axis] for axis in contracted)
    numbers = op.params["dimension_numbers"]
    kernel = prod(right) / right[numbers.rhs_spec[0]]
    # Zeros put between the pixels of a gradient are not multiplied.
    return 2 * prod(out) * kernel / prod(op.params["lhs_dilation"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    return parser.parse_args()


if __name__ == "__main__":
    main()
