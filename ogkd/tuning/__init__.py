"""The building blocks of methods: `Method` and its bases, options, prompt learners, teachers, and the trainer."""
