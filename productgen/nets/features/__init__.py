"""Published feature networks: Inception-v3 for FID, LPIPS and its trunks, ResNets.

`convert` of each network maps published weights to variables; `productgen.published.weights` finds their files and
`productgen.published.tensors` reads them:

    net = InceptionV3()
    variables = net.convert(read(locate('inception')))
    features = net.apply(variables, PROTOCOLS['torch-fidelity'](images))['2048']

    net = LPIPS('alex')
    variables = net.convert(read(locate('alexnet')) | read(locate('lpips_alex')))

There is no fallback to random weights.
"""
