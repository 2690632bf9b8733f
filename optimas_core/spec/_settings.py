"""What a run may be told, section by section of run.yaml. Unknown keys are errors; defaults follow the paper's Table 6 and 7
where they fit one machine, and say so where they do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every section: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SplitSettings(Settings):
    """How one source of examples is divided: by example, shuffled with `seed`. Fractions of the whole or counts."""

    train: float = Field(default=0.5, gt=0)
    validation: float = Field(default=0.25, gt=0)
    test: float = Field(default=0.25, gt=0)
    seed: int = 0


class DataSettings(Settings):
    """Either `train`, `validation`, `test` (three sources) or `source` and `split` (one source, divided by seed).

    A source is a .jsonl (.gz) or .parquet file (a path beside run.yaml, or `s3://bucket/path/file`) or `hf:<name or path>[:split]`.
    """

    source: str | None = None
    split: SplitSettings = SplitSettings()
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    id_column: str | None = None


class BudgetSettings(Settings):
    """Hard caps of a whole run, resumptions included; None is no cap. Reserved before a call, settled after it."""

    usd: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    system_runs: float | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0)


class PreferenceSettings(Settings):
    """One preference pair (paper section 4.1)."""

    examples: int = Field(default=50, ge=2, description="training examples per component in the initial data set (Table 7: 50)")
    candidates: int = Field(default=4, ge=2, description="candidate outputs sampled per example, the incumbent's included")
    rollouts: int = Field(default=4, ge=1, description="Monte Carlo rollouts per candidate at most (Eq. 3)")
    min_gap_se: float = Field(default=1.0, ge=0, description="smallest gap of a pair, in standard errors of the difference")
    temperature: float = Field(default=0.9, gt=0, description="sampling temperature for candidate outputs of a language model")
    held_out: float = Field(default=0.3, gt=0, lt=1, description="share of examples kept for alignment, never trained on")
    racing: bool = Field(default=True, description="stop sampling candidates whose intervals are clearly apart")


class LrfSettings(Settings):
    """The Local Reward Functions (Eq. 2, 4)."""

    rung: Literal["frozen", "lora"] = "lora"
    backbone: str = Field(default="all-minilm-l6-v2", description="an embedded name or a Hugging Face model directory")
    loss: Literal["soft_gap", "bradley_terry"] = "soft_gap"
    beta: float = Field(default=4.0, gt=0, description="scale of the reward gap in soft_gap: target sigmoid(beta * (R+ - R-))")
    lora_rank: int = Field(default=32, ge=1, le=1024)
    lora_alpha: int = Field(default=16, ge=1)
    max_tokens: int = Field(default=256, ge=16, description="truncated from the middle of x_k, never inside y_k (paper: 2048)")
    learning_rate: float = Field(default=1e-3, gt=0, description="of LoRA and heads (Table 6: 2e-6, for an 8B backbone)")
    epochs: int = Field(default=4, ge=1)
    batch_pairs: int = Field(default=16, ge=1, description="pairs of one optimizer step (Table 6: 32)")
    micro_batch_pairs: int = Field(default=8, ge=1)
    patience_epochs: int = Field(default=2, ge=1)
    adapt_steps: int = Field(default=12, ge=1, description="optimizer steps of one online adaptation (section 4.2)")
    replay_pairs: int = Field(default=128, ge=0, description="earlier pairs of the component mixed into an adaptation")
    precision: Literal["auto", "bf16", "fp32"] = Field(default="auto", description="auto: bf16 autocast where the hardware has it")
    max_drift: float = Field(default=0.10, gt=0, le=1, description="largest loss of another component's accuracy an adaptation may cost")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class OptimizerSettings(Settings):
    """Local optimization (section 4.3, Appendix F, Table 7)."""

    proposers: tuple[Literal["opro", "demonstrations", "edits"], ...] = ("demonstrations", "edits", "opro")
    candidates: int = Field(default=3, ge=1, description="proposals of each proposer per step (Table 7: 3)")
    steps: int = Field(default=1, ge=1, le=10, description="local steps; the first is proposed before labelling (Table 7: 3)")
    search_inputs: int = Field(default=50, ge=1, description="training inputs that candidates are ranked on (Table 7: 50)")
    fresh_inputs: int = Field(default=20, ge=1, description="inputs of the mini-batch an LRF adapts on (Table 7: 20)")
    order: Literal["proposals_first", "incumbent_only"] = Field(
        default="proposals_first",
        description="proposals_first labels outputs of the proposals too; incumbent_only is the paper's order",
    )
    selection_mode: Literal["global", "per_input"] = "global"
    leak_guard: bool = Field(default=True, description="drop proposals that copy text of an example into a prompt")
    opro_max_tokens: int = Field(512, ge=16, description="bound of one reply of the proposing model")
    opro_model: str | None = Field(
        default=None, description="module attribute of a client to propose with; default: the component's own model"
    )


class StrictAcceptance(Settings):
    """The paper's rule: accept if and only if the sum of rewards is strictly higher (Algorithm 1, line 15)."""

    kind: Literal["strict"] = "strict"
    items: int = Field(default=20, ge=1)


class PairedSequentialAcceptance(Settings):
    """Default gate: paired group-sequential sign-flip test; `alpha` bounds the whole run's false-accept probability."""

    kind: Literal["paired_sequential"] = "paired_sequential"
    alpha: float = Field(default=0.05, gt=0, lt=1)
    items: int = Field(default=350, ge=8, description="most paired items of one verdict; fewer when the validation set is smaller")
    first_look: int = Field(default=32, ge=4)
    max_missing: float = Field(default=0.2, ge=0, lt=1, description="share of missing pairs above which the verdict is indecisive")
    futility_gain: float = Field(
        default=0.10,
        gt=0,
        description="stop without hope when a gain this large (share of the metric's range) is no longer plausible",
    )


AcceptanceSettings = Annotated[StrictAcceptance | PairedSequentialAcceptance, Field(discriminator="kind")]


class UniformSelection(Settings):
    kind: Literal["uniform"] = "uniform"


class RoundRobinSelection(Settings):
    kind: Literal["round_robin"] = "round_robin"


class GainSelection(Settings):
    """Prefers components whose last iterations gained; `exploration` is the share of uniform choices."""

    kind: Literal["gain"] = "gain"
    exploration: float = Field(default=0.3, ge=0, le=1)


SelectionSettings = Annotated[UniformSelection | RoundRobinSelection | GainSelection, Field(discriminator="kind")]


class ScheduleSettings(Settings):
    """The loop (Algorithm 1)."""

    iterations: int = Field(default=6, ge=1)
    patience: int | None = Field(default=None, ge=1, description="stop after so many iterations in a row without an acceptance")
    target: float | None = Field(default=None, description="stop when the incumbent's validation mean reaches it")
    selection: SelectionSettings = UniformSelection()


class WarmStart(Settings):
    """Start from where another run of the same workspace ended: its configuration, and its reward functions to train further."""

    run: str = Field(description="id of the run")
    configuration: str | None = Field(default=None, description="digest of a configuration of that run; default: its last")
    lrf: str | None = Field(default=None, description="its reward functions; default: its last where `configuration` is not given")


class DriftSettings(Settings):
    """The check that a scheduled run begins with: does the promoted configuration still do what it did?"""

    alpha: float = Field(default=0.05, gt=0, lt=1, description="probability of optimizing again although nothing moved")
    preference_examples: int = Field(
        default=24, ge=0, description="examples of each component whose pairs judge its reward function anew; 0: scores alone decide"
    )


class PriceSettings(Settings):
    usd_per_million_in: float = Field(ge=0)
    usd_per_million_out: float = Field(ge=0)


class RunSettings(Settings):
    """The whole of run.yaml."""

    system: str = Field(description="module:function that builds the CompoundSystem; the module lies beside run.yaml or is installed")
    data: DataSettings
    workspace: str = "./workspace"
    name: str | None = Field(default=None, description="run id; default: derived from the frozen spec")
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=4096, description="system runs in flight")
    budget: BudgetSettings = BudgetSettings()
    preferences: PreferenceSettings = PreferenceSettings()
    lrf: LrfSettings = LrfSettings()
    optimizers: OptimizerSettings = OptimizerSettings()
    acceptance: AcceptanceSettings = PairedSequentialAcceptance()
    schedule: ScheduleSettings = ScheduleSettings()
    prices: dict[str, PriceSettings] = {}
    warm_start: WarmStart | None = None
    calls: Literal["shared", "own"] = Field(
        default="shared",
        description="own: recorded calls of other runs do not answer, because what a model's name stands for may have changed",
    )
    drift: DriftSettings = DriftSettings()
