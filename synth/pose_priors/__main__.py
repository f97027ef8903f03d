from synth.pose_priors.build import main

if __name__ == "__main__":
    main()
