"""`python -m daskglm_rep site ...` at a hospital and `... coordinator ...` at the analyst: files are all they share."""

from pathlib import Path

from daskglm_rep import families
from daskglm_rep.localised.coordinator import COV_TYPES
from daskglm_rep.localised.exchange import Study, answer_file
from daskglm_rep.localised.ledger import Ledger
from daskglm_rep.localised.messages import Message
from daskglm_rep.localised.site import Site, to_json


def add_to(commands):
    """Add the commands to an argparse object of subcommands."""
    site = commands.add_parser("site", help="answer questions about rows that stay here")
    actions = site.add_subparsers(required=True, metavar="ACTION")
    p = actions.add_parser("answer", help="answer a question file")
    p.add_argument("question", help="file of the coordinator")
    p.add_argument("--data", required=True, help="CSV file, Parquet file or folder of the site")
    p.add_argument("--rules", help="TOML file of the site's rules; default: the safe ones")
    p.add_argument("--name", default="site", help="the site's name in the study")
    p.add_argument("--ledger", default="ledger", metavar="DIR", help="private folder that remembers what was answered")
    p.add_argument("--out", required=True, metavar="ANSWER", help="file for the coordinator")
    p.set_defaults(run=answer)
    p = actions.add_parser("show", help="print what a question or answer file holds")
    p.add_argument("message")
    p.set_defaults(run=show)
    p = actions.add_parser("audit", help="print every message that came and went")
    p.add_argument("--ledger", default="ledger", metavar="DIR")
    p.add_argument("--out", metavar="CSV")
    p.set_defaults(run=audit)
    coordinator = commands.add_parser("coordinator", help="fit a model on the answers of sites")
    actions = coordinator.add_subparsers(required=True, metavar="ACTION")
    p = actions.add_parser("start", help="begin a study in a folder")
    p.add_argument("folder")
    p.add_argument("formula", help="for example 'y ~ age + C(ward)'")
    p.add_argument("--sites", required=True, help="names, separated by commas")
    p.add_argument("--family", default="gaussian", choices=(*families.FAMILIES, "multinomial"))
    p.add_argument("--link", help="default: the family's")
    p.add_argument("--cov", default="nonrobust", help=f"{', '.join(COV_TYPES[:-1])} or cluster:COLUMN")
    for name in ("weights", "offset"):
        p.add_argument(f"--{name}", metavar="COLUMN")
    p.add_argument("--effects", action="store_true", help="average marginal effects too, one round more")
    p.set_defaults(run=start)
    p = actions.add_parser("next", help="read the answers that came; write the next question, or the results")
    p.add_argument("folder")
    p.set_defaults(run=advance)


def answer(options):
    """Answer, and say in one line what left."""
    site = Site(options.data, options.rules, options.name, options.ledger)
    sent = answer_file(options.question, options.out, site)
    if sent.kind == "refusal":
        print(f"refused: {sent.facts['reason']}\nwritten: {options.out} (the refusal, which holds no data)")
        return
    print(f"{site.ledger.entries[-1].content}: {sent.n_numbers} numbers about {site.ledger.entries[-1].rows} rows\n"
          f"written: {options.out}")


def show(options):
    """A message in words."""
    message = Message.read(options.message)
    print(f"{message.kind}, {message.n_numbers} numbers\n{to_json(message)}")
    for name, array in message.arrays.items():
        print(f"{name}: {array.dtype} {array.shape}")


def audit(options):
    """The ledger's table."""
    if not Path(options.ledger, "ledger.jsonl").exists():
        raise FileNotFoundError(f"{options.ledger} holds no ledger: name the folder of `site answer --ledger`.")
    table = Ledger(options.ledger).table()
    print(table.to_string(index=False))
    if options.out:
        table.to_csv(options.out, index=False)


def start(options):
    """Begin a study."""
    cov_type, _, clusters = options.cov.partition(":")
    model = dict(formula=options.formula, family=options.family, link=options.link, cov_type=cov_type,
                 clusters=clusters or None, weights=options.weights, offset=options.offset, effects=options.effects)
    study = Study.begin(options.folder, options.sites.split(","), **model)
    print(f"written: {study.question_file(1)}\nSend it to {', '.join(study.sites)}; put their answers beside it as "
          f"{study.answer_file(1, 'SITE').name}, then run: python -m daskglm_rep coordinator next {options.folder}")


def advance(options):
    """One step of a study."""
    study = Study(Path(options.folder))
    coordinator, waiting = study.advance()
    if waiting:
        number = len(coordinator.answers) + 1
        print(f"question {number}: {study.question_file(number)}\nwaiting for {', '.join(waiting)}")
        return
    results = coordinator.results_
    print(results.summary())
    results.summary_frame().to_csv(study.folder / "coefficients.csv")
    results.cov_params().to_csv(study.folder / "covariance.csv")
    coordinator.audit_.to_csv(study.folder / "audit.csv", index=False)
    if coordinator.effects_ is not None:
        coordinator.effects_.frame.to_csv(study.folder / "effects.csv", index=False)
        print("\nAverage marginal effects\n" + coordinator.effects_.frame.to_string(index=False))
    print(f"\n{coordinator.n_rounds_} round trips, {coordinator.audit_['bytes'].sum():,} bytes in all\n"
          f"written: coefficients.csv, covariance.csv, audit.csv in {options.folder}")
