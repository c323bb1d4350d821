from runners.worker.commands import main

main(prog_name="python -m runners.worker")
