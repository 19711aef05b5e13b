"""Intervals and tests: is a difference larger than the chance of test images and data sets explains?

Within a data set the images are resampled (bootstrap); over data sets the tests are those of Demsar, "Statistical
comparisons of classifiers over multiple data sets", JMLR 2006. Seeds are repeated measurements on the same test images:
they are averaged, never counted as additional images or data sets.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation import shares
from ogkd.evaluation.metrics import bound, find, limits, per_class
from ogkd.evaluation.predictions import Predictions, numbered, units

DRAWS = 2000
LEVEL = 0.95
COUNTS_AT_ONCE = 2**18  # images times draws: 2 MiB, which fits into a core's cache
MOST_PERMUTED = 14  # differences, with 2^14 permutations of signs
DECIMALS = 9  # smaller differences are rounding errors, as between 70.1 - 70 and 60.1 - 60


# Within a data set: bootstrap over images


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    tail: the quantile of the draws on either side; smaller than (1 - level) / 2 where there are few patients.
    samples: (draws,) the value on each draw, as far from the interval's value as its ends are; NaN where undefined.
        Draws of the same images are paired.
    raw: (draws,) the same, not scaled.
    least: half the width of the interval of a difference that is the same in each draw.
    span: the largest possible difference of two values.
    images: a fingerprint of the images, labels and classes; None if computed from several intervals.
    """

    value: float
    low: float
    high: float
    level: float
    samples: np.ndarray = field(repr=False, compare=False)
    images: str | None = field(default=None, repr=False, compare=False)
    tail: float = field(default=(1 - LEVEL) / 2, repr=False, compare=False)
    raw: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    least: float = field(default=0.0, repr=False, compare=False)
    span: float = field(default=np.inf, repr=False, compare=False)


def bootstrap(
    metric: str,
    predictions: Predictions | Sequence[Predictions],
    *,
    minus: Predictions | Sequence[Predictions] | None = None,
    groups: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    costs: object = None,
    order: object = None,
) -> Interval | None:
    """A metric, averaged over seeds, with its interval over test images, or over patients where these are known.

    The interval shows what other patients would have given with these trained prompts; it does not include variation
    between trainings. That of a share (Metric.shares) is computed, others are Student's from the deviation of bootstrap
    draws. Each draw samples patients with replacement, the same ones for all seeds and in each class, so that no class
    is lost; a patient with several classes is drawn whole, among those of the rarest. The interval of a metric that few
    images increase (Metric.inflated), such as the ECE, reaches down to what it would be without that bias.

    predictions: those of one run, or of one run per seed on the same images in the same order.
    minus: those of another method, see `paired_difference`.
    groups: the patient (or another cluster) of each image, instead of those of the predictions. An image whose group is
        None or "" is a separate group.
    seed: the seed of the draws. The same images, groups and seed give the same draws for every method and metric.
    costs, order: as in metrics.compute.

    Returns None if the metric is undefined on the data. Draws on which it is undefined are left out.
    Raises UserError if the predictions are of different images or a setting is out of range.
    """
    methods = [_seeds(one) for one in (predictions, minus) if one is not None]
    if not 0 < level < 1 or draws < 1:
        raise UserError(f"An interval needs a level between 0 and 1 and at least one draw, not {level} and {draws}.")
    base = methods[0][0]
    for run in (run for runs in methods for run in runs):
        same = (run.images, run.classnames) == (base.images, base.classnames)
        if not same or (run.labels != base.labels).any():
            raise UserError(
                "Runs are only averaged or compared on the same test images, labels and classes in the same order; "
                f"here one has {len(base)} images in {len(base.classnames)} classes, another {len(run)} in "
                f"{len(run.classnames)}: test them all on one data set."
            )
    function, resampled = bound(metric, len(base.classnames), costs=costs, order=order)

    def value(rows: np.ndarray | None = None) -> float:
        """The mean over a method's seeds, for two methods their difference; NaN if undefined."""
        means = []
        for runs in methods:
            values = [function(run if rows is None else cast(Predictions, _Rows(run, rows))) for run in runs]
            means.append(np.nan if None in values else sum(cast("list[float]", values)) / len(values))
        return float(means[0] - sum(means[1:]))

    measured = value()
    if np.isnan(measured):
        return None
    known = [run.groups for runs in methods for run in runs if run.groups is not None]
    if groups is not None:
        base = replace(base, groups=_numbered(groups, len(base)))
    elif known:
        if any((one != known[0]).any() for one in known):
            raise UserError("The runs name different patients for the same test images: test them all again.")
        base = replace(base, groups=known[0])
    strata = _strata(base)
    rows_of_draws = _draws(base.images, strata, draws, seed)
    if resampled is None:
        samples = np.array([value(rows) for rows in rows_of_draws])
    else:
        of_runs = [[resampled(run) for run in runs] for runs in methods]
        samples = np.concatenate(
            [
                _mean_over_runs([of_run(counts) for of_run in of_runs[0]])
                - sum(_mean_over_runs([of_run(counts) for of_run in runs]) for runs in of_runs[1:])
                for counts in _counts(rows_of_draws, len(base))
            ]
        )
    if not find(metric).inflated:
        samples = samples + _of_single_units(base, strata, value, measured, draws, seed)
    estimate = _percentiles(measured, samples, level, strata.tail(level), _fingerprint(base))
    smallest, largest = limits(metric, len(base.classnames), costs=costs, order=order)
    estimate = replace(estimate, span=largest - smallest, least=_least(metric, base, estimate, largest - smallest))
    if len(methods) > 1:
        alike = _flat(samples) and methods[0] != methods[1]
        ends = (measured - estimate.least, measured + estimate.least) if alike else _symmetric(estimate)
        return _stretched(estimate, *_within(ends, -estimate.span, estimate.span))
    if find(metric).inflated and not _flat(samples):
        return _about_the_value(estimate)
    return _stretched(
        estimate, *_within(_ends(metric, methods[0], base, estimate, (smallest, largest)), smallest, largest)
    )


def paired_difference(
    metric: str,
    first: Predictions | Sequence[Predictions],
    second: Predictions | Sequence[Predictions],
    **options: Any,
) -> Interval | None:
    """The metric of the first method minus the second's, both averaged over seeds, with its interval.

    Both are computed on the same resampled images. A method without seeds (zero-shot) may have a single run. Options,
    None and errors are as in `bootstrap`.
    """
    return bootstrap(metric, first, minus=second, **options)


def combine(function: Callable[..., float], *intervals: Interval, difference: bool = False) -> Interval:
    """A number computed from several, with its interval: combine(harmonic_mean, base, novel).

    difference: whether the function subtracts intervals of the same images, whose draws are then taken as they are.

    Draws of different images are independent, draws of the same images are paired. So an average over data sets gets
    the interval for exactly these data sets, and a difference of HMs stays paired.
    """
    draws, levels = {len(one.samples) for one in intervals}, {one.level for one in intervals}
    if len(draws) > 1 or len(levels) > 1:
        raise UserError("Intervals with different numbers of draws or levels cannot be combined: use the same for all.")
    samples, raw = (
        np.array([function(*row) for row in zip(*of_all, strict=True)])
        for of_all in ([one.samples for one in intervals], [one.raw for one in intervals])
    )
    tail, value = min(one.tail for one in intervals), function(*(one.value for one in intervals))
    scaled = replace(_percentiles(value, samples, levels.pop(), tail), raw=raw)
    least, span = max(one.least for one in intervals), max(one.span for one in intervals)
    if not difference:  # a mean of draws that are skewed all alike, as near 100 %, may lie beside the value
        ends = min(scaled.low, scaled.value), max(scaled.high, scaled.value)
        if any(_flat(one.raw) for one in intervals):  # whose draws are made up, and so not independent
            low, high = _recovered(function, intervals)
            # The nearer end is too near if only some values have reached their bound: then the draws decide.
            ends = (low, max(high, ends[1])) if high - value < value - low else (min(low, ends[0]), high)
        return replace(scaled, low=ends[0], high=ends[1], least=least, span=span)
    estimate = replace(scaled, samples=raw)
    ends = (value - least, value + least) if _flat(raw) else _symmetric(estimate)
    return _stretched(estimate, *_within(ends, -span, span))


def _recovered(function: Callable[..., float], intervals: Sequence[Interval]) -> tuple[float, float]:
    """The ends of the interval of a function that grows with independent values, from the ends of theirs: squared
    distances add up (method of variance estimates recovery, Zou and Donner, Statistics in Medicine 2008)."""
    values = [one.value for one in intervals]
    whole = function(*values)

    def distance(end: str) -> float:
        moved = ([*values[:i], getattr(one, end), *values[i + 1 :]] for i, one in enumerate(intervals))
        return float(np.sqrt(sum((function(*at) - whole) ** 2 for at in moved)))

    return whole - distance("low"), whole + distance("high")


class _Rows:
    """Images drawn from predictions; each array is gathered when a metric uses it."""

    def __init__(self, source: Predictions, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows
        self.classnames = source.classnames

    def __len__(self) -> int:
        return len(self._rows)

    def __getattr__(self, name: str) -> np.ndarray:
        values = getattr(self._source, name)[self._rows]
        setattr(self, name, values)
        return values

    @cached_property
    def by_confidence(self) -> np.ndarray:
        """As in Predictions, but sorts indices instead of numbers, which is several times as fast."""
        order = self._source.by_confidence
        places = np.empty(len(order), np.uint16 if len(order) <= 2**16 else np.int64)
        places[order] = np.arange(len(order))
        return np.argsort(places[self._rows], kind="stable")


def _flat(samples: np.ndarray) -> bool:
    """Whether all draws are equal but for rounding errors."""
    defined = samples[~np.isnan(samples)]
    return not len(defined) or bool(np.ptp(defined) < 10.0**-DECIMALS)


def _within(ends: tuple[float, float], smallest: float, largest: float) -> tuple[float, float]:
    return max(ends[0], smallest), min(ends[1], largest)


def _about_the_value(estimate: Interval) -> Interval:
    """The interval of a metric that repeated images increase. Few images increase it too: draws, which have the chance
    of the images twice, by sqrt(2) - 1 of that if the truth is 0, and by more of it if not. So the interval reaches
    down by that much more than the draws scatter; they are shifted so that their mean is the value."""
    mean = np.nanmean(estimate.samples)
    # draws that are smaller, since they have other shares of the classes, show no such increase
    increase = max(mean - estimate.value, 0.0) / (np.sqrt(2) - 1)
    low = max(estimate.value - increase - (estimate.high - mean), 0.0)
    moved = estimate.samples - (mean - estimate.value)
    return _stretched(replace(estimate, samples=moved, raw=moved), low, estimate.high - (mean - estimate.value))


def _least(metric: str, base: Predictions, estimate: Interval, span: float) -> float:
    """Half the interval of a difference from answers that are as good in each draw: that of a share of 0 images that
    differ, times what a difference can be."""
    of = find(metric).shares
    one = (of and of(base)) or per_class(base)
    none_differs = replace(one, values=np.zeros(len(base)), offset=0.0)
    return span * shares.interval(none_differs, units(base), estimate.level)[1] if np.isfinite(span) else 0.0


def _ends(
    metric: str, runs: list[Predictions], base: Predictions, estimate: Interval, within: tuple[float, float]
) -> tuple[float, float]:
    """The ends of an interval: computed for a share, else Student's from the draws' deviation.

    Equal draws say nothing of the chance of few images. Then the ends are those of a balanced accuracy that lies where
    the value lies between its limits.
    """
    of, (smallest, largest) = find(metric).shares, within
    if (mean := shares.mean_over_runs([of(run) if of else None for run in runs])) is not None:
        low, high = shares.interval(mean, units(base), estimate.level, len(runs))
        return 100 * low, 100 * high
    span = largest - smallest
    if not _flat(estimate.samples):
        return _on_logit_scale(estimate) if find(metric).unit == "%" else _symmetric(estimate)
    if not span or not np.isfinite(span):
        return estimate.value, estimate.value
    share = np.full(len(base), np.clip((estimate.value - smallest) / span, 0, 1))
    low, high = shares.interval(replace(per_class(base), values=share), units(base), estimate.level)
    return smallest + low * span, smallest + high * span


def _symmetric(estimate: Interval) -> tuple[float, float]:
    """Student's interval from the deviation of the draws; percentiles of draws of few patients do not reach so far."""
    from scipy.special import ndtri

    half = -float(ndtri(estimate.tail)) * float(np.nanstd(estimate.samples)) if estimate.tail else 0.0
    return estimate.value - half, estimate.value + half


def _on_logit_scale(estimate: Interval) -> tuple[float, float]:
    """Student's interval of a percentage from the deviation of its draws, computed for its logit: percentiles of a
    skewed distribution near 0 or 100 do not reach far enough towards 50."""
    from scipy.special import expit, logit, ndtri

    share = estimate.value / 100
    if not 0 < share < 1 or not estimate.tail:
        return estimate.low, estimate.high
    half = -ndtri(estimate.tail) * np.nanstd(estimate.samples) / 100 / (share * (1 - share))
    low, high = (100 * float(expit(logit(share) + side * half)) for side in (-1, 1))
    return low, high


def _stretched(estimate: Interval, low: float, high: float) -> Interval:
    """The interval with other ends, and with draws that agree with them: those on either side of the value are scaled,
    and where none differs from it, a normal distribution is drawn instead."""
    if (low, high) == (estimate.low, estimate.high):
        return estimate
    away = estimate.samples - estimate.value
    if _flat(away):
        away = 0 * away + np.random.default_rng(0).normal(size=len(away))
    below, above = np.nanquantile(away, [estimate.tail, 1 - estimate.tail])
    if not below < 0 < above:  # draws have other shares of rare classes
        away = away - np.nanmedian(away)
        below, above = np.nanquantile(away, [estimate.tail, 1 - estimate.tail])
    scale = np.where(away < 0, (estimate.value - low) / max(-below, 1e-12), (high - estimate.value) / max(above, 1e-12))
    return replace(estimate, low=low, high=high, samples=estimate.value + away * scale)


def _fingerprint(predictions: Predictions) -> str:
    """Equal for equal images, labels, classes and groups in the same order."""
    groups = None if predictions.groups is None else predictions.groups.tolist()
    facts = repr((predictions.images, predictions.labels.tolist(), predictions.classnames, groups))
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()


def _percentiles(value: float, samples: np.ndarray, level: float, tail: float, images: str | None = None) -> Interval:
    defined = samples[~np.isnan(samples)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high), level, samples, images, tail, samples)


def _numbered(groups: Sequence[Hashable], number: int) -> np.ndarray | None:
    if len(groups) != number:
        raise UserError(f"Groups (patients) are given for {len(groups)} images, but {number} were tested.")
    return numbered(groups)


@dataclass(frozen=True)
class _Strata:
    """What a draw samples: units (patients, or images) within strata (the rarest class of each).

    order: (N,) the images, unit by unit. sizes: (U,) images per unit, in strata. ends: (S,) units before each stratum's
    end.
    """

    order: np.ndarray
    sizes: np.ndarray
    ends: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """Units per stratum, (S,)."""
        return np.diff(self.ends, prepend=0)

    def tail(self, level: float) -> float:
        """The quantile that makes a percentile interval as wide as one with Student's t.

        Its degrees of freedom are Satterthwaite's for a mean over classes, in which a class counts by the variance of
        its own mean, so that few patients in one class are enough to make it wide.
        """
        from scipy.special import ndtr, stdtrit  # scipy.stats takes half a second to import

        several = self.numbers[self.numbers > 1]
        if len(several):
            free = np.square((1 / several).sum()) / (1 / (np.square(several) * (several - 1))).sum()
        else:
            free = len(self.numbers) - 1
        if not free:
            return 0.0
        return float(ndtr(-stdtrit(free, (1 + level) / 2)))


def _strata(predictions: Predictions) -> _Strata:
    labels, classes = predictions.labels, len(predictions.classnames)
    _, codes = np.unique(units(predictions), return_inverse=True)
    pairs = np.unique(codes * classes + labels)  # each unit with each of its classes, once
    frequency = np.bincount(pairs % classes, minlength=classes)
    rarest_first = pairs[np.lexsort((pairs % classes, frequency[pairs % classes], pairs // classes))]
    _, first = np.unique(rarest_first // classes, return_index=True)
    stratum = rarest_first[first] % classes  # of each unit
    by_stratum = np.argsort(stratum, kind="stable")
    place = np.empty_like(by_stratum)
    place[by_stratum] = np.arange(len(place))
    sizes = np.bincount(codes)[by_stratum]
    return _Strata(np.argsort(place[codes], kind="stable"), sizes, np.cumsum(np.bincount(stratum)[np.unique(stratum)]))


def _draws(images: Sequence[str], strata: _Strata, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each draw: one unit fewer than there are of each stratum, so that the variance is not too small where
    they are few. They depend on the images, so that draws on different data sets are independent."""
    random = np.random.default_rng([seed, zlib.crc32("\0".join(images).encode("utf-8", "surrogatepass"))])
    times = np.maximum(strata.numbers - 1, 1)
    high, low = np.repeat(strata.ends, times), np.repeat(strata.ends - strata.numbers, times)
    starts = np.cumsum(strata.sizes) - strata.sizes
    single = len(strata.sizes) == len(strata.order)
    for _ in range(draws):
        chosen = random.integers(low, high)
        if single:
            yield strata.order[chosen]
            continue
        repeats = strata.sizes[chosen]
        before = np.cumsum(repeats) - repeats
        yield strata.order[np.repeat(starts[chosen] - before, repeats) + np.arange(repeats.sum())]


def _of_single_units(
    base: Predictions, strata: _Strata, value: Callable[[np.ndarray], float], measured: float, draws: int, seed: int
) -> np.ndarray:
    """What draws lack of the chance of strata with one unit, which is in each draw: deviations, (draws,), as large as
    the value's change without that unit. Those of several methods on the same images are paired."""
    several = len(strata.numbers) > 1
    single = np.flatnonzero(np.repeat((strata.numbers == 1) & several, strata.numbers))
    of_unit = np.repeat(np.arange(len(strata.sizes)), strata.sizes)
    changes = [value(np.sort(strata.order[of_unit != unit])) - measured for unit in single]
    random = np.random.default_rng([seed, zlib.crc32("\0".join(base.images).encode("utf-8", "surrogatepass")), 1])
    return random.normal(size=(draws, len(changes))) @ np.nan_to_num(changes)


def _counts(draws: Iterator[np.ndarray], number: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, (R, N) float64, for R draws at a time."""
    while rows := list(itertools.islice(draws, max(1, COUNTS_AT_ONCE // number))):
        yield np.array([np.bincount(estimate, minlength=number) for estimate in rows], dtype=np.float64)


def _mean_over_runs(values: Sequence[np.ndarray]) -> np.ndarray:
    return cast(np.ndarray, sum(values) / len(values))


def _seeds(predictions: Predictions | Sequence[Predictions]) -> list[Predictions]:
    runs = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    if not runs:
        raise UserError("An interval needs the predictions of at least one run.")
    return runs


# Over data sets: Wilcoxon with Holm, Friedman with Nemenyi


@dataclass(frozen=True)
class Comparison:
    """A comparison of two methods over the data sets that both have.

    difference: the mean of method - other.
    better, worse: the numbers of data sets, by the metric's direction; the rest are ties.
    p: the p value of the exact Wilcoxon signed-rank test. p_holm: corrected for all comparisons made together.
    """

    method: str
    other: str
    datasets: tuple[str, ...]
    difference: float
    better: int
    worse: int
    p: float
    p_holm: float


def compare(
    scores: Mapping[str, Mapping[str, float | None]],
    method: str,
    against: Sequence[str],
    *,
    lower_is_better: bool = False,
) -> list[Comparison]:
    """Test a method against others over data sets, corrected together.

    scores: {method: {data set: score}}; a score is the mean over seeds, so that a data set counts once.
    Raises UserError for two methods without a data set in common.
    """
    differences = {}
    for other in against:
        both = {name: (score, scores.get(other, {}).get(name)) for name, score in scores.get(method, {}).items()}
        differences[method, other] = {n: a - b for n, (a, b) in both.items() if a is not None and b is not None}
        if not differences[method, other]:
            raise UserError(f"{method} and {other} have no data set in common, so they cannot be compared.")
    return compare_differences(differences, lower_is_better=lower_is_better)


def compare_differences(
    differences: Mapping[tuple[str, str], Mapping[str, float]], *, lower_is_better: bool = False
) -> list[Comparison]:
    """As `compare`, for any pairs of methods, corrected together: {(method, other): {data set: method - other}}."""
    found = []
    for (method, other), by_dataset in differences.items():
        values = np.array(list(by_dataset.values()))
        gains = np.round(-values if lower_is_better else values, DECIMALS)
        better, worse = int((gains > 0).sum()), int((gains < 0).sum())
        p = wilcoxon(values)
        found.append(Comparison(method, other, tuple(by_dataset), float(values.mean()), better, worse, p, p))
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p_holm) for one, p_holm in zip(found, corrected, strict=True)]


def wilcoxon(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; differences of 0 are left out.

    Exact, with ties by all permutations of signs, but for ties among more than MOST_PERMUTED differences, where SciPy
    chooses. The smallest possible value is 2^(1 - n) for n differences: 0.002 for 10, 0.001 for 11.
    """
    from scipy import stats

    rounded = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    signed = rounded[rounded != 0]
    if len(signed) < 2:
        return 1.0
    ties = len(np.unique(np.abs(signed))) < len(signed)
    if ties and len(signed) <= MOST_PERMUTED:
        ranks = np.sign(signed) * stats.rankdata(np.abs(signed))
        return float(stats.permutation_test((ranks,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue)
    return float(stats.wilcoxon(signed, method="auto" if ties else "exact").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for multiple comparisons (Holm, Scandinavian Journal of Statistics 1979)."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


@dataclass(frozen=True)
class Friedman:
    """Methods ranked within each data set, 1 the best.

    ranks: {method: mean rank}, best first. p: the p value of the Friedman test that all methods are equal.
    critical_difference: mean ranks at least this far apart differ by the Nemenyi test at level alpha.
    cliques: maximal groups of methods that do not differ; each is a bar of the critical-difference diagram.
    """

    datasets: tuple[str, ...]
    ranks: dict[str, float]
    statistic: float
    p: float
    alpha: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]


def friedman(
    scores: Mapping[str, Mapping[str, float | None]], *, lower_is_better: bool = False, alpha: float = 0.05
) -> Friedman:
    """The Friedman test with the Nemenyi post-hoc test over the data sets that all methods have (Demsar 2006).

    scores: as in `compare`. Ties share their mean rank. Read the cliques only where p is below alpha.
    Raises UserError for fewer than three methods (use `compare`) or fewer than two data sets in common.
    """
    from scipy.stats import friedmanchisquare, rankdata

    methods = list(scores)
    if len(methods) < 3:
        raise UserError("The Friedman test needs three methods: compare two with the Wilcoxon test.")
    datasets = tuple(name for name in scores[methods[0]] if all(scores[m].get(name) is not None for m in methods))
    if len(datasets) < 2:
        raise UserError(f"The Friedman test needs two data sets that all of {', '.join(methods)} were run on.")
    table = np.round([[scores[method][name] for method in methods] for name in datasets], DECIMALS)
    table = table if lower_is_better else -table
    means = rankdata(table, axis=1).mean(0)
    alike = bool((table == table[:, :1]).all())
    statistic, p = (0.0, 1.0) if alike else friedmanchisquare(*table.T)
    distance = nemenyi_critical_difference(len(methods), len(datasets), alpha)
    ranks = {methods[i]: float(means[i]) for i in np.argsort(means, kind="stable")}
    return Friedman(datasets, ranks, float(statistic), float(p), alpha, distance, _cliques(ranks, distance))


def nemenyi_critical_difference(methods: int, datasets: int, alpha: float = 0.05) -> float:
    """Smallest significant difference of two mean ranks: q sqrt(k (k + 1) / (6 N)) (Demsar 2006)."""
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def _cliques(ranks: Mapping[str, float], distance: float) -> tuple[tuple[str, ...], ...]:
    names, values = list(ranks), np.array(list(ranks.values()))
    ends = [int(np.searchsorted(values, value + distance, "left")) for value in values]
    return tuple(
        tuple(names[start:end])
        for start, end in enumerate(ends)
        if end - start > 1 and (start == 0 or end > ends[start - 1])
    )
