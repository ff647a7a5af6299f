"""The data kept of one person, in every place: exported, and erased once it is needed no more."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Command, Noun, Service

NOUN = Noun(
    name="personal_data",
    services=(Service("service:PersonalDataService"),),
    commands=(Command("person", "cli:app"),),
    for_jobs=("service:for_jobs",),
    audited=(Audited("person", en("personal data"), is_person=True),),
)
