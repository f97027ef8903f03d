from synth.open_body.build import main

if __name__ == "__main__":
    main()
