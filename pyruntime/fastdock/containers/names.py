"""Names for containers that were given none: ``brisk_otter``."""

# ruff: noqa: SIM905  (twenty lines instead of two hundred)
from __future__ import annotations

import os

_QUALITIES = (
    "able amber ample aqua azure bold brave breezy bright brisk broad bronze calm candid cheery civil clear clever "
    "cosy crisp curious dapper deft eager early easy even fair famous fast fine firm fleet fond frank free fresh "
    "gentle glad golden grand great green handy happy hardy hearty honest humble ideal jolly keen kind large lively "
    "loyal lucid lucky lunar magic major mellow merry mighty mild modest neat nimble noble novel olive open patient "
    "placid plucky polar polite prime prompt proud quick quiet rapid rare ready regal robust rosy royal ruby sage "
    "scarlet serene sharp shiny silent silver simple smart smooth snug solar solid sound spry stable steady stout "
    "sunny super sure swift tidy tiny true upbeat vast vivid warm wise witty young zesty"
).split()
_CREATURES = (
    "albatross antelope badger beaver bison bobcat camel caribou cheetah cobra condor coral cougar crane cricket crow "
    "curlew deer dingo dolphin donkey dove dragonfly eagle egret elk falcon ferret finch firefly flamingo fox gazelle "
    "gecko gibbon giraffe goose grouse gull hare hawk hedgehog heron hippo hornet ibex ibis iguana impala jackal "
    "jaguar jay kestrel kingfisher kite koala lark lemur leopard linnet lion llama lobster lynx magpie mallard manatee "
    "marmot marten mink mole moose moth narwhal newt ocelot octopus orca oriole osprey otter owl oyster panda panther "
    "parrot pelican penguin petrel pigeon plover puffin puma quail rabbit raccoon raven robin salmon seal shark sloth "
    "snail sparrow squid stork swallow swan swift tapir tern tiger toad toucan trout turtle viper vole walrus weasel "
    "whale wolf wombat wren yak zebra"
).split()


def random_name(attempt: int = 0) -> str:
    """Two words; with a number from the second attempt on."""
    name, number = name_of(os.urandom(4).hex()), int.from_bytes(os.urandom(4))
    return f"{name}{number % 10 ** min(attempt, 6)}" if attempt else name


def name_of(container_id: str) -> str:
    """That of a container which nobody has given one, and which is in no list of names."""
    number = int(container_id[:8], 16)
    return f"{_QUALITIES[number % len(_QUALITIES)]}_{_CREATURES[number // len(_QUALITIES) % len(_CREATURES)]}"
