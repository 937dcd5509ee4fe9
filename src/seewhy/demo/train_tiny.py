"""Trains the models that ship with the demo, from nothing but drawn posters and photos, on a CPU.

python -m seewhy.demo.train_tiny vlm --out src/seewhy/demo/tiny_vlm
python -m seewhy.demo.train_tiny answers --start DIR --out DIR      # the third step of `vlm` alone, from its second
python -m seewhy.demo.train_tiny encoder --out src/seewhy/demo/tiny_encoder
python -m seewhy.demo.train_tiny image --out src/seewhy/demo/tiny_image
python -m seewhy.demo.train_tiny siglip --posters 3000 --out src/seewhy/demo/tiny_siglip
"""

import argparse
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("vlm", "answers", "encoder", "image", "siglip"))
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and tokenizer")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument(
        "--posters",
        type=int,
        default=10_000,
        help="drawn for the vlm (half as many again for its third step) and siglip",
    )
    parser.add_argument("--photos", type=int, default=12_000, help="drawn for the vlm")
    parser.add_argument("--see-steps", type=int, default=2_000)
    parser.add_argument("--speak-steps", type=int, default=1_500)
    parser.add_argument("--answer-pictures", type=int, default=2_500, help="posters, and as many photos, asked about")
    parser.add_argument("--answer-steps", type=int, default=450)
    parser.add_argument("--start", type=Path, help="what answers begins from: a vlm that captions and describes")
    parser.add_argument("--score-steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model == "vlm":
        from seewhy.demo.train_vlm import train_vlm

        train_vlm(
            options.out,
            seed=options.seed,
            posters=options.posters,
            photos=options.photos,
            see_steps=options.see_steps,
            speak_steps=options.speak_steps,
            answer_pictures=options.answer_pictures,
            answer_steps=options.answer_steps,
        )
    elif options.model == "answers":
        from seewhy.demo.train_vlm import train_answers

        train_answers(
            options.start,
            options.out,
            seed=options.seed,
            pictures=options.answer_pictures,
            steps=options.answer_steps,
        )
    elif options.model == "image":
        from seewhy.demo.train_image import train_image

        train_image(options.out, seed=options.seed)
    elif options.model == "siglip":
        from seewhy.demo.train_siglip import train_siglip

        train_siglip(options.out, seed=options.seed, posters=options.posters, steps=options.score_steps)
    else:
        from seewhy.demo.train_encoder import train_encoder

        train_encoder(options.out, seed=options.seed)


if __name__ == "__main__":
    main()
