"""The command `eqvae-sample` in a checkout; `twostage.cli.sample` is what it does."""

from twostage.cli.sample import main

if __name__ == "__main__":
    main()
