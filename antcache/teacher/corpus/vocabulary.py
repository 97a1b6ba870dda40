"""Words that the lexicon extractor knows beside the verbs and nouns of a dataset: closed lists.

Promise: lower case, base forms, constants only. Function words decide where a phrase starts and
ends; verbs and adjectives of recipes fill up what the class files of a dataset lack.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


VERBS = _set(
    """
    add adjust allow arrange assemble bake baste beat begin bind blanch blend blitz boil bone
    braise break bring broil brown brush bury butter caramelize carve char check chill choose
    chop clean coat combine continue cook cool core cover crack cream create crimp crumble crush
    cube cut debone decorate defrost deglaze deseed devein dice dip discard dissolve divide
    douse drain dredge drench dress drizzle drop dump dust eat empty emulsify enjoy ensure
    fasten ferment fill filter finish flake flatten flip flour fluff fold form freeze fry
    garnish give glaze grate grease grill grind halve hang heat hull husk incorporate increase
    infuse insert introduce invert juice julienne keep knead ladle lay leave let lift light line
    loosen lower make marinate mash massage measure melt microwave mince mix moisten mold move
    mull oil open pack parboil pat peel pepper perform pick pickle pierce pinch pit place plunge
    poach pop pound pour preheat prepare press prick process pull pulse puree push put raise
    reduce refrigerate reheat release remove repeat replace reserve rest restore return rinse
    roast roll rotate rub run salt saturate saute sauté scald scatter scoop score scramble
    scrape scrub seal sear season secure select separate serve set shake shape shave shell shock
    shred sieve sift simmer skewer skim skin slather slice slide slit smash smear smoke soak
    soften spice split spoon spread sprinkle squeeze start steam steep stew stick stir stone
    store strain stretch stuff submerge sweat sweep sweeten swirl take taste tear temper
    tenderize test thaw thicken thread throw tie tilt tip toast top toss transfer trim truss
    tuck turn twist uncover unmold unwrap use vent wait warm wash watch weigh whip whisk wipe
    wrap zest
    """
)
"""Verbs of recipes."""

NOT_COMMANDS = _set(
    "do have see used rise thin half video knife fork realize play used-to bin trow pace rise "
    "water-on water-off sun stem loose scrap"
)
"""Verbs of class files that start no command in a recipe, or only as another word."""

NOUN_OR_VERB = _set(
    """
    bone brown brush butter can coat core cream cube dish dry dust end filter flour form glaze
    grease ground juice ladle level lid light microwave mold oil pack paste pepper pickle pinch
    pit plate pot process rise roll salt sauce shell skewer skin slice smoke spice spoon spray
    spread stew stick stock stone store sugar sweat tap tip toast top towel water zest
    """
)
"""After a comma or "and", these are verbs only where an object or a preposition follows."""

DETERMINERS = _set(
    "the a an your my our their its his her this these those each every another some any all both "
    "no several many few half either plenty enough whatever"
)
NUMBERS = _set("one two three four five six seven eight nine ten twelve dozen")
AMOUNTS = _set(
    "about around approximately roughly more extra additional remaining rest little much twice "
    "as however lot lots couple one two three four five six seven eight nine ten twelve dozen "
    "other same last first second third least most rest bit desired leftover whole entire "
    "own such"
)
"""What may stand between a determiner and the noun and counts rather than names."""

PRONOUNS = _set("it them they this these that those")
NAMELESS = _set("everything something anything some any more one other rest each all both half")
"""Stand for things without naming them; base forms, as words are looked up by these."""

PREPOSITIONS = _set(
    "in into on onto to with without from for at by over under above below through between among "
    "around across along inside outside within against toward towards via per near beside behind "
    "beneath after before during about off like using except than plus upon underneath including"
)
WHERE = _set("in into on onto over with off under")
"""Prepositions that follow a verb rather than the name of a thing."""
PARTICLES = _set("in out on off up down over away back apart aside around")
SUBORDINATORS = _set(
    "when if once while until till unless because since although though whenever where whereas as "
    "after before that lest whilst which who whose what how so why whether"
)
CONNECTORS = _set("and or then but & / so plus")
ADVERBS = _set(
    """
    afterwards again ahead almost also alternatively always anyway aside backwards beforehand
    downwards even finally first forward further gradually halfway here however immediately
    instead just last lastly later maybe meanwhile never next not now once only optionally
    otherwise overnight perhaps please quite second secondly sideways simply soon still straight
    then there thereafter thoroughly together too twice very well
    """
)
MODALS = _set("can may could should must might will")
SUBJECTS = _set("you we i they it he she there")
BE = _set(
    "is are was were be been being has have had will would can could may might should does do did "
    "gets get become becomes looks starts begins"
)
NEGATIONS = _set("not don't don\u2019t dont never avoid do")
PHASES = _set("start begin continue keep finish stop try")
LETTING = _set("let allow")

TIMES = _set(
    "second minute min mins hour hr day night week month degree f c °f °c time inch cm mm sec "
    "while moment fahrenheit celsius °"
)
"""An object phrase that ends in one of these says how long, how hot, or how far."""

MEASURES = _set(
    """
    all amount bag batch bit both bottle bowl box bunch can carton cl clove coating couple crumb
    cube cup cupful dash dl dollop dozen drizzle drop each g gallon generous gill glass gram
    half handful head jar kg kilo kind knob l ladle ladleful layer lb lbs leaf liter litre lot
    lots majority mixture-of ml most none number one ounce oz pack package packet pair part
    piece pinch pint plenty portion pound quart quarter remainder rest scoop sheet slice some
    sort splash spoon spoonful sprig sprinkle sprinkling squeeze stalk stick table tablespoon
    tablespoonful tb tbs tbsp teaspoon teaspoonful third tin touch tsp two type variety
    wineglass
    """
)
"""Give way to what they hold: "2 cans of tomatoes" is tomatoes."""

ADJECTIVES = _set(
    """
    airtight al apart appropriate aside away beaten best better big bite-size bite-sized bitter
    black boiling boneless bottom broken brown bubbly caramelized certain chopped clean clear
    coarse coarsely cold completely cooked cool covered creamy crisp crispy crosswise crumbly
    crunchy crushed cut damp dark deep dente desired diced different done double drained dried
    dry edible empty enough equal even evenly excess extra extra-firm extra-virgin favorite
    favourite fine fine-grained finely firm flat fluffy foamy fresh freshly frozen full fully
    gentle golden good grated green ground halved hard heatproof heavy high homemade horizontal
    hot hulled inner inside kosher large large-size lean leftover lengthwise light lightly
    little long loose low lower lukewarm mashed medium medium-high medium-hot medium-low
    medium-size melted metal middle mild minced moist more most new next nice non-stick
    nonreactive nonstick old only open optional organic outer outside oven-proof oven-safe
    ovenproof pale peeled pitted plain plastic possible preferred preheated prepared quartered
    quick quicker quite raw ready red remaining reserved rich rinsed ripe roasted roughly round
    salted salty separate shallow sharp sheer short shredded simmering single skinless sliced
    slow small smoky smooth soft softened sour spicy square sticky stiff store-bought sweet tall
    tender thick thickened thin thinly thinner tight toasted together top total translucent
    transparent uncooked uncovered unsalted upper vertical very virgin warm well wet white whole
    wide wooden yellow
    """
)

NAMES_BY_NOUN = {
    "bean": "black green",
    "beef": "ground",
    "bread": "flat",
    "cabbage": "red",
    "cheese": "blue",
    "corn": "sweet",
    "cream": "heavy sour whipped",
    "dog": "hot",
    "meat": "ground",
    "milk": "condensed evaporated",
    "olive": "black green",
    "onion": "green red spring white",
    "pea": "split",
    "pepper": "bell black chili green red white",
    "pork": "ground",
    "potato": "sweet",
    "powder": "baking",
    "rice": "brown white wild",
    "rub": "dry",
    "sauce": "hot",
    "sugar": "brown white",
    "wheat": "whole",
    "white": "egg",
    "wine": "red white",
}
NAMES = frozenset((word, noun) for noun, words in NAMES_BY_NOUN.items() for word in words.split())
"""Adjective and noun that together are the name of a thing."""

LOOSE_GERUNDS = _set(
    "resulting remaining boiling simmering following missing steaming bubbling sizzling "
    "corresponding existing"
)
"""Words in -ing that describe; the others before a noun are part of its name (frying pan)."""

THINGS_IN_ING = _set(
    "filling topping frosting icing stuffing pudding shortening dumpling string wing ring casing "
    "coating dressing seasoning lining sausage-casing trimming cooking"
)
"""Words in -ing that are things themselves."""

PLACES = _set(
    """
    air bag batch blender bottle bowl casserole center centre container cooker cube cup dish
    freezer fridge fryer glass grill half jar microwave middle minute mixer order oven pan piece
    place plate pot processor quarter refrigerator saucepan sink skillet strip tin tray water
    wok
    """
)
"""After "put in" and the like these are where, not what."""

POURING = _set("stir mix whisk fold beat pour add crack toss throw put drop blend squeeze rub")
"""Verbs that take "in" as a particle: "stir in the milk"."""

ALONE = _set(
    """
    bake boil bring chill continue cook cool cover enjoy freeze fry knead let reduce refrigerate
    repeat rest season serve simmer steam stir taste wait
    """
)
"""Verbs that are complete without an object: "cover and steam the vegetables"."""
