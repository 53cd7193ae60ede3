internal import VitIR
