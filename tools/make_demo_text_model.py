"""Train the small SentencePiece model that ships for the demo, and lay it out as PaliGemma's vocabulary is.

The text is made here: robot instructions from a small grammar, and plain sentences. The special ids are
PaliGemma's (pad 0, eos 1, bos 2, unk 3), digits stand alone, bytes stand in for characters without a piece,
and the last pieces are `<loc0000>` to `<loc1023>` and `<seg000>` to `<seg127>`, so that FAST id t is text id
`vocabulary - 1 - 128 - t` here too.

    python tools/make_demo_text_model.py python/pioxide/demo/text.model

The same sentencepiece version gives the same bytes.
"""

import argparse
import io
import random
from collections.abc import Iterator
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb

MERGES = 2600  # pieces that merges make; FAST ids from 1024 on fall on the last 1024 of them
BLANKS = ["\n", "\n\n", *("▁" * n for n in range(2, 9))]

VERBS = """pick up|put down|place|move|lift|lower|push|pull|slide|turn|rotate|flip|open|close|fold|unfold|
stack|unstack|sort|wipe|clean|wash|rinse|dry|pour|fill|empty|stir|shake|hang|hold|hand over|pass|transfer|
insert|remove|take|bring|fetch|carry|drop|grasp|release|press|squeeze|twist|screw|unscrew|cap|uncap|cover|
uncover|wrap|unwrap|pack|unpack|load|unload|attach|detach|align|touch|point at|reach for|look at|find|
throw away|sweep|scoop|peel|cut|slice|spread|plug in|unplug|switch on|switch off|straighten|tidy|zip|unzip|
tie|untie|roll|unroll|arrange|line up|hook|unhook"""
OBJECTS = """cube|block|ball|cup|mug|glass|bowl|plate|spoon|fork|knife|bottle|jar|can|lid|cap|pen|pencil|
marker|book|notebook|box|bag|basket|towel|cloth|napkin|sponge|brush|shirt|sock|shoe|glove|hat|pillow|
blanket|toy|doll|car|truck|train|peg|socket|ring|rope|cable|plug|connector|battery|screw|bolt|nut|
screwdriver|wrench|hammer|pliers|tape|scissors|apple|banana|orange|lemon|pear|peach|carrot|potato|tomato|
onion|pepper|cucumber|corn|egg|bread|cheese|cookie|sandwich|tea bag|sugar cube|coffee pod|cereal box|
milk carton|soap|toothbrush|toothpaste|phone|remote|keyboard|mouse|lamp|clock|key|lock|coin|card|envelope|
letter|paper|folder|stapler|eraser|ruler|calculator|headphones|charger|tray|pan|pot|kettle|ladle|spatula|
whisk|cutting board|colander|teapot|vase|flower|plant|watering can|bucket|mop|broom|dustpan|gear|wheel|tube|
vial|pipette|beaker|sensor|bracket|panel|hinge|spring|bearing|washer|valve|hose|pipe|brick|plank|tile"""
KINDS = """red|green|blue|yellow|orange|purple|pink|black|white|grey|brown|silver|golden|small|large|tiny|
big|long|short|tall|round|square|flat|heavy|light|soft|hard|wooden|metal|plastic|paper|rubber|empty|full|
open|closed|left|right|nearest|farthest|first|second|third|last|other|remaining|dirty|clean|wet|folded|
broken|transparent|striped|upright"""
PLACES = """on the table|on the shelf|in the drawer|in the box|into the basket|into the bowl|onto the plate|
in the sink|on the tray|next to the plate|beside the cup|behind the box|in front of the robot|
between the two blocks|under the lamp|above the bin|inside the cabinet|at the edge of the table|
in the middle of the board|to the left of the bottle|to the right of the mug|on top of the stack|
against the wall|near the window|in the trash|into the bin|on the rack|in the left gripper|
in the right gripper|with the left arm|with the right arm|with both arms|over the stove|in the dishwasher|
on the counter|in the fridge|on the floor|on the chair|by the door|in the corner|off the hook"""
MANNERS = """slowly|gently|carefully|quickly|twice|once more|halfway|completely|without spilling|
without touching the others|and wait|and stop|and go home|and let go|then step back|one by one|
in order of size|by colour|upside down|again|as far as it goes|before the others|after the lid is off|
until it clicks|until it is full|until nothing is left"""
OPENINGS = ["please ", "now ", "first ", "then ", "finally ", "carefully ", "can you ", "try to "] + 4 * [""]

SENTENCES = """The robot looks at the table before it moves.
A gripper that closes too early drops what it meant to hold.
Two arms can lift what is too wide for one.
When the cup is full, stop pouring and set the bottle down.
Every joint has a limit, and a good controller never comes near it.
The camera on the wrist sees the object last and best.
If the drawer is stuck, pull a little, push a little, and pull again.
Nobody should have to explain twice which of the blocks is meant.
The towel is folded once along its length and once across.
What was learnt from one kitchen is tried in another.
Wait until the person has taken the glass, then open the hand.
There are several ways to stack four boxes, and most of them fall.
Keep the bowl level while you carry it, or the soup will not stay in it.
A plan is a list of small things that are each easy to check.
The light changed during the afternoon, yet the colours were still told apart.
Where does this belong? It belongs on the upper shelf, behind the jars.
Some tasks end when a thing is in its place; others end when the hand is empty.
The left arm holds the socket while the right arm brings the peg.
Yes, that is the one. No, not that one; the other one, please.
She asked for the small screwdriver, so the robot found it, turned it around and handed it over.
They measured the distance, wrote it down, and measured it again from the other side.
Because the floor was wet, the wheels slipped and the map was wrong by half a metre.
Learning from demonstrations works best when the demonstrations are calm and complete.
An action is a number for each motor, thirty or fifty times a second.
The state is where the joints are now: shoulders, elbows, wrists and fingers.
Many hands make light work, but only if they know about each other.
Before lunch we cleared the bench, and after lunch we built the fixture.
Could you bring me something to drink from the kitchen, without ice?
Nothing happened for a moment, which is exactly what we had hoped for.
Its shadow moved across the wall as the arm reached over the lamp.
The cable must not be bent more sharply than a coin is round.
Whatever you do, do not let the glass touch the edge of the sink.
Usually the lid comes off with a quarter turn to the left.
The second attempt was better than the first, and the third was good enough.
Through the window came the sound of a train, and the microphone heard it too.
Those parts are brass, these are steel; sort them by weight if you cannot see it.
It would have been faster by hand, yet the point was to do it a thousand times.
Our experiment needs a clean table, a full battery, and somebody who watches.
Different people fold the same shirt in different ways, and all of them are right.
Together the network, the tokens and the motors turn a sentence into a movement."""


def words(text: str) -> list[str]:
    """The parts between bars, on one line each."""
    return [" ".join(part.split()) for part in text.split("|")]


def instructions(rng: random.Random) -> Iterator[str]:
    """Endless instructions, most of them plain, some with a second step."""
    verbs, objects, kinds = words(VERBS), words(OBJECTS), words(KINDS)
    places, manners = words(PLACES), words(MANNERS)

    def step() -> str:
        kind = rng.choice(kinds) + " " if rng.random() < 0.6 else ""
        number = f"{rng.randint(2, 12)} " if rng.random() < 0.05 else ""
        end = f" {rng.choice(places)}" if rng.random() < 0.7 else ""
        end += f" {rng.choice(manners)}" if rng.random() < 0.25 else ""
        article = "the" if not number else "the " + number.strip()
        return f"{rng.choice(verbs)} {article} {kind}{rng.choice(objects)}{end}"

    while True:
        text = rng.choice(OPENINGS) + step()
        if rng.random() < 0.2:
            text += rng.choice([" and ", ", then ", "; "]) + step()
        if rng.random() < 0.3:
            text = text[0].upper() + text[1:] + rng.choice([".", ".", "!", "?"])
        yield text


def corpus() -> list[str]:
    """Some thousand lines, the same in each run."""
    rng = random.Random(2024)
    tasks = instructions(rng)
    lines = [" ".join(map(chr, range(33, 127)))]
    for number in range(12_000):
        task = next(tasks)
        if number % 4 == 0:
            bins = " ".join(str(rng.randint(-1, 255)) for _ in range(rng.choice([6, 7, 8, 14])))
            lines += [f"Task: {task}, State: {bins};", "Action: |"]
        else:
            lines.append(task)
    return lines + SENTENCES.splitlines() * 25


def trained() -> tuple[list[str], list[str]]:
    """The characters and the merged pieces that training finds, best first."""
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=buffer,
        model_type="bpe",
        vocab_size=MERGES + 600,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        byte_fallback=True,
        num_threads=1,
        minloglevel=2,
    )
    model = pb.ModelProto.FromString(buffer.getvalue())
    normal = [piece for piece in model.pieces if piece.type == pb.ModelProto.SentencePiece.NORMAL]
    merged = [piece.piece for piece in sorted(normal, key=lambda p: -p.score) if len(piece.piece) > 1]
    return sorted(piece.piece for piece in normal if len(piece.piece) == 1), merged


def layout(characters: list[str], merged: list[str]) -> pb.ModelProto:
    """The vocabulary in PaliGemma's order, as far as it has the same parts."""
    if len(merged) < MERGES:
        raise ValueError(f"training found {len(merged)} merged pieces, {MERGES} are needed")
    kinds = pb.ModelProto.SentencePiece
    model = pb.ModelProto()

    def add(pieces: list[str], kind: int, scored: bool = False) -> None:
        for place, piece in enumerate(pieces):
            model.pieces.add(piece=piece, score=-place if scored else 0.0, type=kind)

    add(["<pad>", "<eos>", "<bos>"], kinds.CONTROL)
    add(["<unk>"], kinds.UNKNOWN)
    add(BLANKS, kinds.USER_DEFINED)
    add([f"<0x{byte:02X}>" for byte in range(256)], kinds.BYTE)
    # A character is never the result of a merge, so its score has no effect.
    add([*characters, *merged[:MERGES]], kinds.NORMAL, scored=True)
    add([f"<loc{n:04d}>" for n in range(1024)], kinds.USER_DEFINED)
    add([f"<seg{n:03d}>" for n in range(128)], kinds.USER_DEFINED)

    trainer = model.trainer_spec
    trainer.model_type = pb.TrainerSpec.BPE
    trainer.vocab_size = len(model.pieces)
    trainer.split_digits = trainer.byte_fallback = True
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.pad_piece, trainer.eos_piece = "<pad>", "<eos>"
    trainer.bos_piece, trainer.unk_piece = "<bos>", "<unk>"
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return model


def main() -> None:
    """Trains, and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path, help="where to write the .model")
    output: Path = parser.parse_args().output
    model = layout(*trained())
    output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{output}: {len(model.pieces)} pieces, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
